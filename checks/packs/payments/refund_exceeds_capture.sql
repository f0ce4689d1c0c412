-- /// db-race check
-- id       = "payments.refund_exceeds_capture"
-- title    = "No more is refunded than was captured"
-- severity = "error"
-- key      = ["capture_id"]
-- tags     = ["payments", "capacity"]
-- remedy   = "lock the capture's row before its refunds are summed up"
--
-- [needs]
-- capture = ["capture_id", "amount"]
-- refund  = ["capture_id", "amount"]
-- ///
--
-- A refund of what was never captured is found here as well.
with given_back as (
    select capture_id, sum(amount) as refunded, count(*) as refunds
    from refund
    group by capture_id
)
select capture_id, capture.amount as captured, given_back.refunded, given_back.refunds
from given_back
left join capture using (capture_id)
where given_back.refunded > coalesce(capture.amount, 0)
order by capture_id;
