-- /// db-race check
-- id       = "hotel.negative_counts"
-- title    = "No counter is below zero"
-- severity = "error"
-- key      = ["room_type_id", "date"]
-- ///
--
-- The CHECK constraints of room_inventory say the same, as long as they are there.
select
    room_type_id,
    date,
    allotment,
    booked_count,
    tentative_count
from room_inventory
where allotment < 0 or booked_count < 0 or tentative_count < 0
order by room_type_id, date;
