-- /// db-race check
-- id       = "booking.cancelled_with_item"
-- title    = "No cancelled booking still has an active item"
-- severity = "error"
-- key      = ["item_id"]
-- tags     = ["booking", "capacity"]
-- remedy   = "release the items in the transaction that cancels the booking; what they take is lost until then"
--
-- [needs]
-- booking      = ["booking_id", "is_cancelled"]
-- booking_item = ["item_id", "booking_id", "is_active"]
-- ///
select item_id, booking_id
from booking_item
join booking using (booking_id)
where booking.is_cancelled and booking_item.is_active
order by item_id;
