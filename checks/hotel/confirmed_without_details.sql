-- /// db-race check
-- id       = "hotel.confirmed_without_details"
-- title    = "Every confirmed booking has rooms"
-- severity = "error"
-- key      = ["booking_id"]
-- ///
select
    b.booking_id,
    b.hold_id,
    b.guest,
    h.room_type_id,
    h.nights,
    h.quantity
from bookings b
join booking_holds h on h.hold_id = b.hold_id
where
    b.status = 'confirmed'
    and not exists (select from booking_details d where d.booking_id = b.booking_id)
order by b.booking_id;
