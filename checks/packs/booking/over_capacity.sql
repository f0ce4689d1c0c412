-- /// db-race check
-- id       = "booking.over_capacity"
-- title    = "Active bookings never take more of a resource than it has"
-- severity = "error"
-- key      = ["resource_id", "moment"]
-- tags     = ["booking", "capacity"]
-- remedy   = "lock the resource's row before its bookings are summed up (select ... for update), or keep a counter with a check on it"
--
-- [needs]
-- booking  = ["resource_id", "starts_at", "ends_at", "party", "is_active"]
-- resource = ["resource_id", "capacity"]
-- ///
--
-- What is taken changes only where a booking starts or ends. What ends and starts at one moment is summed up first: the end is not part of
-- a booking. A finding is a moment from which on too much is taken.
with change as (
    select resource_id, starts_at as moment, party
    from booking
    where is_active and (ends_at > starts_at or ends_at is null)
    union all
    select resource_id, ends_at, -party
    from booking
    where is_active and ends_at > starts_at
),
load as (
    select resource_id, moment, sum(sum(party)) over (partition by resource_id order by moment) as taken
    from change
    group by resource_id, moment
)
select resource_id, moment, load.taken, resource.capacity
from load
join resource using (resource_id)
where load.taken > resource.capacity
order by resource_id, moment;
