-- /// db-race check
-- id       = "payments.key_stuck"
-- title    = "No idempotency key is in progress for long"
-- severity = "warn"
-- key      = ["scope_id", "request_key"]
-- tags     = ["payments", "stuck"]
-- params   = { key_within = "10 minutes" }
-- remedy   = "let a claim run out: who claimed it has died between claiming and doing, and every retry is refused since"
--
-- [needs]
-- idempotency_key = ["scope_id", "request_key", "is_in_progress", "claimed_at"]
-- ///
--
-- `key_within`: how long a request may take.
select scope_id, request_key, claimed_at, now() - claimed_at as claimed_for
from idempotency_key
where is_in_progress and claimed_at < now() - current_setting('race.key_within')::interval
order by scope_id, request_key;
