-- /// db-race check
-- id       = "hotel.confirmed_after_expiry"
-- title    = "No booking was made of a hold that had run out"
-- severity = "error"
-- key      = ["booking_id"]
-- ///
select
    b.booking_id,
    b.hold_id,
    b.guest,
    h.hold_expiry,
    b.created_at as booked_at
from bookings b
join booking_holds h on h.hold_id = b.hold_id
where b.created_at >= h.hold_expiry
order by b.booking_id;
