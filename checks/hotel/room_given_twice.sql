-- /// db-race check
-- id       = "hotel.room_given_twice"
-- title    = "A room is given to one booking a night"
-- severity = "error"
-- key      = ["room_type_id", "date", "room_number"]
-- ///
--
-- The unique constraint of booking_details says the same, as long as it is there.
select
    room_type_id,
    date,
    room_number,
    count(*) as times,
    string_agg(booking_id::text, ', ' order by booking_id) as booking_ids
from booking_details
group by room_type_id, date, room_number
having count(*) > 1
order by room_type_id, date, room_number;
