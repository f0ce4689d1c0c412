-- /// db-race check
-- id       = "queue.unsent_for_long"
-- title    = "No message of the outbox waits for long"
-- severity = "warn"
-- key      = ["message_id"]
-- tags     = ["queue", "stuck"]
-- params   = { send_within = "5 minutes" }
-- remedy   = "see whether the sender is running, and whether it skips what it couldn't send once"
--
-- [needs]
-- outbox = ["message_id", "is_sent", "created_at"]
-- ///
--
-- `send_within`: how long a message may wait.
select message_id, created_at, now() - created_at as waiting
from outbox
where not coalesce(is_sent, false) and created_at < now() - current_setting('race.send_within')::interval
order by message_id;
