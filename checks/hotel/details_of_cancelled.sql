-- /// db-race check
-- id       = "hotel.details_of_cancelled"
-- title    = "A cancelled booking keeps no rooms"
-- severity = "error"
-- key      = ["booking_detail_id"]
-- ///
--
-- Its room numbers would never be given out again.
select
    d.booking_detail_id,
    b.booking_id,
    b.guest,
    b.status as booking_status,
    d.room_type_id,
    d.date,
    d.room_number
from booking_details d
join bookings b on b.booking_id = d.booking_id
where b.status = 'cancelled'
order by d.booking_detail_id;
