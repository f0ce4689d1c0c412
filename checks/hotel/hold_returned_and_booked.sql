-- /// db-race check
-- id       = "hotel.hold_returned_and_booked"
-- title    = "A hold whose rooms were given back has no confirmed booking"
-- severity = "error"
-- key      = ["hold_id", "booking_id"]
-- ///
--
-- Released or expired and yet booked: the rooms were taken off the hold twice.
select
    h.hold_id,
    b.booking_id,
    h.guest,
    h.status as hold_status,
    b.status as booking_status,
    h.hold_expiry,
    b.created_at as booked_at
from booking_holds h
join bookings b on b.hold_id = h.hold_id
where h.status in ('released', 'expired') and b.status = 'confirmed'
order by h.hold_id, b.booking_id;
