-- /// db-race check
-- id       = "booking.ends_before_it_starts"
-- title    = "Every active booking ends after it starts"
-- severity = "error"
-- key      = ["booking_id"]
-- tags     = ["booking", "integrity"]
-- remedy   = "add check (ends_at > starts_at); an empty range overlaps nothing, so no exclusion constraint sees it"
--
-- [needs]
-- booking = ["booking_id", "resource_id", "starts_at", "ends_at", "is_active"]
-- ///
select booking_id, resource_id, starts_at, ends_at
from booking
where is_active and ends_at <= starts_at
order by booking_id;
