-- /// db-race check
-- id       = "booking.item_without_booking"
-- title    = "Every item has its booking"
-- severity = "error"
-- key      = ["item_id"]
-- tags     = ["booking", "integrity"]
-- remedy   = "add a foreign key from the item to its booking"
--
-- [needs]
-- booking      = ["booking_id"]
-- booking_item = ["item_id", "booking_id"]
-- ///
select item_id, booking_item.booking_id
from booking_item
where not exists (select from booking where booking.booking_id = booking_item.booking_id)
order by item_id;
