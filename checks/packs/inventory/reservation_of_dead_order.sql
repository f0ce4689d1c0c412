-- /// db-race check
-- id       = "inventory.reservation_of_dead_order"
-- title    = "Every open reservation that was made for an order has a live one"
-- severity = "error"
-- key      = ["reservation_id"]
-- tags     = ["inventory", "integrity"]
-- remedy   = "end the reservations in the transaction that cancels or ships the order; what they hold is lost until then"
--
-- [needs]
-- reservation = ["reservation_id", "is_open", "order_id"]
-- sales_order = ["order_id", "is_live"]
-- ///
select reservation_id, order_id, sales_order.is_live
from reservation
left join sales_order using (order_id)
where reservation.is_open and reservation.order_id is not null and sales_order.is_live is not true
order by reservation_id;
