-- /// db-race check
-- id       = "booking.over_capacity_with_holds"
-- title    = "Active bookings and holds never take more of a resource than it has"
-- severity = "error"
-- key      = ["resource_id", "moment"]
-- tags     = ["booking", "capacity"]
-- remedy   = "lock the resource's row before bookings and holds are summed up; check the capacity when a hold is made, not only when it is confirmed"
--
-- [needs]
-- booking  = ["resource_id", "starts_at", "ends_at", "party", "is_active"]
-- hold     = ["resource_id", "starts_at", "ends_at", "party", "is_active"]
-- resource = ["resource_id", "capacity"]
-- ///
with claim as (
    select resource_id, starts_at, ends_at, party
    from booking
    where is_active and (ends_at > starts_at or ends_at is null)
    union all
    select resource_id, starts_at, ends_at, party
    from hold
    where is_active and (ends_at > starts_at or ends_at is null)
),
change as (
    select resource_id, starts_at as moment, party
    from claim
    union all
    select resource_id, ends_at, -party
    from claim
    where ends_at is not null
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
