-- /// db-race check
-- id       = "inventory.oversold"
-- title    = "No more is sold and reserved than there was"
-- severity = "error"
-- key      = ["item_id", "location_id"]
-- tags     = ["inventory", "capacity"]
-- remedy   = "sell by update ... where sold + reserved + n <= total, and look at the number of rows; or add check (sold + reserved <= total)"
--
-- [needs]
-- stock = ["item_id", "location_id", "reserved", "sold", "total"]
-- ///
--
-- For what is sold out of a total that stays as it is: tickets, an allotment of rooms.
select item_id, location_id, total, sold, reserved, sold + reserved - total as too_many
from stock
where sold + reserved > total
order by item_id, location_id;
