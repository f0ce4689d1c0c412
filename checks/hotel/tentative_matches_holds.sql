-- /// db-race check
-- id       = "hotel.tentative_matches_holds"
-- title    = "tentative_count is the sum of the active holds"
-- severity = "error"
-- key      = ["room_type_id", "date"]
-- ///
--
-- A hold that ran out counts until the sweeper has taken it back: it still keeps its rooms. The join is a full one,
-- because a hold on a night that is not in the inventory is as wrong as a counter without holds.
select
    room_type_id,
    date,
    i.tentative_count,
    coalesce(h.held, 0) as held_by_active_holds,
    h.hold_ids
from room_inventory i
full join (
    select
        room_type_id,
        night as date,
        sum(quantity) as held,
        string_agg(hold_id::text, ', ' order by hold_id) as hold_ids
    from booking_holds
    cross join unnest(nights) as night
    where status = 'active'
    group by room_type_id, night
) as h using (room_type_id, date)
where i.tentative_count is distinct from coalesce(h.held, 0)
order by room_type_id, date;
