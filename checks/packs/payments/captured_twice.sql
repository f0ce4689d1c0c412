-- /// db-race check
-- id       = "payments.captured_twice"
-- title    = "A payment is captured once at the most"
-- severity = "error"
-- key      = ["payment_id"]
-- tags     = ["payments", "duplicate"]
-- remedy   = "make payment_id of captures unique, and send the provider the payment's id as its idempotency key"
--
-- [needs]
-- capture = ["capture_id", "payment_id", "amount"]
-- ///
select
    payment_id,
    count(*) as captures,
    sum(amount) as captured,
    array_agg(capture_id order by capture_id) as capture_ids
from capture
where payment_id is not null
group by payment_id
having count(*) > 1
order by payment_id;
