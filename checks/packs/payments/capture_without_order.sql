-- /// db-race check
-- id       = "payments.capture_without_order"
-- title    = "Every capture has its order"
-- severity = "error"
-- key      = ["capture_id"]
-- tags     = ["payments", "integrity"]
-- remedy   = "give the money back, then write the order before the provider is asked for it"
--
-- [needs]
-- sales_order = ["order_id"]
-- capture     = ["capture_id", "order_id", "amount"]
-- ///
select capture_id, order_id, amount
from capture
where not exists (select from sales_order where sales_order.order_id = capture.order_id)
order by capture_id;
