-- /// db-race check
-- id       = "hotel.booked_matches_details"
-- title    = "booked_count is the number of rooms given out"
-- severity = "error"
-- key      = ["room_type_id", "date"]
-- ///
select
    room_type_id,
    date,
    i.booked_count,
    coalesce(d.rooms, 0) as rooms_given_out,
    d.booking_ids
from room_inventory i
full join (
    select
        d.room_type_id,
        d.date,
        count(*) as rooms,
        string_agg(distinct d.booking_id::text, ', ') as booking_ids
    from booking_details d
    join bookings b on b.booking_id = d.booking_id
    where b.status = 'confirmed'
    group by d.room_type_id, d.date
) as d using (room_type_id, date)
where i.booked_count is distinct from coalesce(d.rooms, 0)
order by room_type_id, date;
