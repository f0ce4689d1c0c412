-- /// db-race check
-- id       = "payments.paid_without_capture"
-- title    = "Every paid order has a capture"
-- severity = "error"
-- key      = ["order_id"]
-- tags     = ["payments", "integrity"]
-- remedy   = "mark an order as paid in the transaction that writes its capture, and nowhere else"
--
-- [needs]
-- sales_order = ["order_id", "is_paid", "total"]
-- capture     = ["order_id"]
-- ///
select order_id, total
from sales_order
where
    is_paid
    and total > 0
    and not exists (select from capture where capture.order_id = sales_order.order_id)
order by order_id;
