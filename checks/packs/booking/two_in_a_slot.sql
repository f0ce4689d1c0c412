-- /// db-race check
-- id       = "booking.two_in_a_slot"
-- title    = "No two active bookings are for the same resource and start"
-- severity = "error"
-- key      = ["resource_id", "starts_at"]
-- tags     = ["booking", "capacity"]
-- remedy   = "forbid it in the table: create unique index on booking (resource_id, starts_at) where is_active"
--
-- [needs]
-- booking = ["booking_id", "resource_id", "starts_at", "is_active"]
-- ///
--
-- For slots and seats, which one booking takes whole; where several may share one, see slot_overbooked.
select
    resource_id,
    starts_at,
    count(*) as bookings,
    array_agg(booking_id order by booking_id) as booking_ids
from booking
where is_active
group by resource_id, starts_at
having count(*) > 1
order by resource_id, starts_at;
