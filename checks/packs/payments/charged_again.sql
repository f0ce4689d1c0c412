-- /// db-race check
-- id       = "payments.charged_again"
-- title    = "An order is not charged the same amount again within minutes"
-- severity = "warn"
-- key      = ["capture_id"]
-- tags     = ["payments", "duplicate"]
-- params   = { retry_within = "15 minutes" }
-- remedy   = "look whether a client's retry after a timeout charged twice; keep its idempotency key through all retries"
--
-- [needs]
-- capture = ["capture_id", "order_id", "amount", "captured_at"]
-- ///
--
-- `retry_within`: how close two charges must be to look like one and its retry.
with charge as (
    select
        capture_id,
        order_id,
        amount,
        captured_at,
        lag(capture_id) over again as capture_before,
        lag(captured_at) over again as captured_before
    from capture
    where order_id is not null
    window again as (partition by order_id, amount order by captured_at, capture_id)
)
select capture_id, order_id, amount, captured_at, capture_before, captured_before
from charge
where captured_at - captured_before < current_setting('race.retry_within')::interval
order by capture_id;
