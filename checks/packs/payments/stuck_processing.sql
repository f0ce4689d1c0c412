-- /// db-race check
-- id       = "payments.stuck_processing"
-- title    = "No payment waits for its provider for long"
-- severity = "warn"
-- key      = ["payment_id"]
-- tags     = ["payments", "stuck"]
-- params   = { answer_within = "15 minutes" }
-- remedy   = "ask the provider what became of it: the answer or its webhook was lost, and the customer may have been charged"
--
-- [needs]
-- payment = ["payment_id", "is_processing", "updated_at"]
-- ///
--
-- `answer_within`: how long a provider may take.
select payment_id, updated_at, now() - updated_at as waiting
from payment
where is_processing and updated_at < now() - current_setting('race.answer_within')::interval
order by payment_id;
