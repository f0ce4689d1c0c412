-- /// db-race check
-- id       = "booking.slot_counter_differs"
-- title    = "A slot's counter is the sum of its active bookings"
-- severity = "error"
-- key      = ["resource_id", "starts_at"]
-- tags     = ["booking", "counter"]
-- remedy   = "a counter too high: a cancelled or expired booking did not return its capacity; too low: one was returned twice, or an update was lost"
--
-- [needs]
-- booking = ["resource_id", "starts_at", "party", "is_active"]
-- slot    = ["resource_id", "starts_at", "taken"]
-- ///
with booked as (
    select resource_id, starts_at, sum(party) as booked
    from booking
    where is_active
    group by resource_id, starts_at
)
select
    resource_id,
    starts_at,
    slot.taken,
    coalesce(booked.booked, 0) as booked
from slot
full join booked using (resource_id, starts_at)
where coalesce(slot.taken, 0) is distinct from coalesce(booked.booked, 0)
order by resource_id, starts_at;
