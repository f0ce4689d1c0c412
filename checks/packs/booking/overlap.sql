-- /// db-race check
-- id       = "booking.overlap"
-- title    = "No two active bookings of a resource overlap"
-- severity = "error"
-- key      = ["booking_id"]
-- tags     = ["booking", "capacity"]
-- remedy   = "forbid it in the table: exclude using gist (resource_id with =, tstzrange(starts_at, ends_at) with &&) where (is_active)"
--
-- [needs]
-- booking = ["booking_id", "resource_id", "starts_at", "ends_at", "is_active"]
-- ///
--
-- For resources that one booking takes whole; where several may share one, see over_capacity. An earlier booking may be longer than those
-- that started after it, so each start is compared with the latest end of all before it, not with the last one's.
with taken as (
    select
        booking_id,
        resource_id,
        starts_at,
        coalesce(ends_at, 'infinity') as ends_at,
        max(coalesce(ends_at, 'infinity')) over (
            partition by resource_id
            order by starts_at, booking_id
            rows between unbounded preceding and 1 preceding
        ) as taken_until
    from booking
    where is_active and (ends_at > starts_at or ends_at is null)
)
select distinct on (late.booking_id)
    late.booking_id,
    late.resource_id,
    late.starts_at,
    late.ends_at,
    early.booking_id as overlaps_booking_id,
    early.starts_at as overlaps_starts_at,
    early.ends_at as overlaps_ends_at
from taken as late
join taken as early
    on early.resource_id = late.resource_id
    and early.ends_at = late.taken_until
    and (early.starts_at, early.booking_id) < (late.starts_at, late.booking_id)
where late.starts_at < late.taken_until
order by late.booking_id, early.starts_at, early.booking_id;
