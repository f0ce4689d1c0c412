-- /// db-race check
-- id       = "hotel.hold_active_and_booked"
-- title    = "A hold with a confirmed booking is not active any more"
-- severity = "error"
-- key      = ["hold_id", "booking_id"]
-- ///
--
-- Such a hold takes its rooms twice, and can be confirmed again.
select
    h.hold_id,
    b.booking_id,
    h.guest,
    h.status as hold_status,
    b.status as booking_status,
    h.hold_expiry
from booking_holds h
join bookings b on b.hold_id = h.hold_id
where h.status = 'active' and b.status = 'confirmed'
order by h.hold_id, b.booking_id;
