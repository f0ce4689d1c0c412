-- /// db-race check
-- id       = "hotel.room_number_beyond_allotment"
-- title    = "Every room given out exists"
-- severity = "error"
-- key      = ["booking_detail_id"]
-- ///
--
-- Rooms are numbered 1 to allotment, each night.
select
    d.booking_detail_id,
    d.booking_id,
    d.room_type_id,
    d.date,
    d.room_number,
    i.allotment
from booking_details d
join room_inventory i on i.room_type_id = d.room_type_id and i.date = d.date
where d.room_number not between 1 and i.allotment
order by d.booking_detail_id;
