-- /// db-race check
-- id       = "inventory.negative_stock"
-- title    = "Neither what is there nor what is reserved is below zero"
-- severity = "error"
-- key      = ["item_id", "location_id"]
-- tags     = ["inventory", "capacity"]
-- remedy   = "add check (on_hand >= 0 and reserved >= 0), so that the second of two who take the last one fails"
--
-- [needs]
-- stock = ["item_id", "location_id", "on_hand", "reserved"]
-- ///
select item_id, location_id, on_hand, reserved
from stock
where on_hand < 0 or reserved < 0
order by item_id, location_id;
