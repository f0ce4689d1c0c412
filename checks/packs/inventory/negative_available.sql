-- /// db-race check
-- id       = "inventory.negative_available"
-- title    = "No more is reserved than is there"
-- severity = "error"
-- key      = ["item_id", "location_id"]
-- tags     = ["inventory", "capacity"]
-- remedy   = "reserve by update ... set reserved = reserved + n where on_hand - reserved >= n, and look at the number of rows; or add check (reserved <= on_hand)"
--
-- [needs]
-- stock = ["item_id", "location_id", "on_hand", "reserved"]
-- ///
select item_id, location_id, on_hand, reserved, on_hand - reserved as available
from stock
where reserved > on_hand
order by item_id, location_id;
