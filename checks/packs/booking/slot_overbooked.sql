-- /// db-race check
-- id       = "booking.slot_overbooked"
-- title    = "A slot's counter never exceeds its capacity, nor falls below zero"
-- severity = "error"
-- key      = ["resource_id", "starts_at"]
-- tags     = ["booking", "capacity"]
-- remedy   = "add check (taken between 0 and capacity), and change the counter by update ... set taken = taken + n, not by a value that was read before"
--
-- [needs]
-- slot = ["resource_id", "starts_at", "capacity", "taken"]
-- ///
select resource_id, starts_at, capacity, taken
from slot
where taken > capacity or taken < 0
order by resource_id, starts_at;
