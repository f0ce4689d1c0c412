-- /// db-race check
-- id       = "payments.paid_total_differs"
-- title    = "What was captured for a paid order, less refunds, is its total"
-- severity = "error"
-- key      = ["order_id"]
-- tags     = ["payments", "counter"]
-- remedy   = "more: charged twice, or a refund is missing; less: the order's total changed after it was paid, or it was refunded twice"
--
-- [needs]
-- sales_order = ["order_id", "total", "is_paid"]
-- capture     = ["capture_id", "order_id", "amount"]
-- refund      = ["capture_id", "amount"]
-- ///
--
-- Of orders that have captures at all; see paid_without_capture for the others.
with given_back as (
    select capture_id, sum(amount) as refunded
    from refund
    group by capture_id
),
kept as (
    select order_id, sum(capture.amount) as captured, coalesce(sum(given_back.refunded), 0) as refunded
    from capture
    left join given_back using (capture_id)
    group by order_id
)
select
    order_id,
    sales_order.total,
    kept.captured,
    kept.refunded,
    kept.captured - kept.refunded - sales_order.total as difference
from sales_order
join kept using (order_id)
where sales_order.is_paid and kept.captured - kept.refunded is distinct from sales_order.total
order by order_id;
