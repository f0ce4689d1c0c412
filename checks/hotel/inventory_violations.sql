-- /// db-race check
-- id       = "hotel.inventory_violations"
-- title    = "Booked and held rooms never exceed the allotment"
-- severity = "error"
-- key      = ["room_type_id", "date"]
-- ///
select
    room_type_id,
    date,
    allotment,
    booked_count,
    tentative_count,
    booked_count + tentative_count as total
from room_inventory
where booked_count + tentative_count > allotment
order by room_type_id, date;
