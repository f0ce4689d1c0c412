-- /// db-race check
-- id       = "saga.unfinished_for_long"
-- title    = "Every saga comes to an end, completed or compensated"
-- severity = "warn"
-- key      = ["saga_id"]
-- tags     = ["saga", "stuck"]
-- params   = { finish_within = "1 hour" }
-- remedy   = "see which step it waits for; what its steps have done so far stands half done"
--
-- [needs]
-- saga = ["saga_id", "is_completed", "is_compensated", "started_at"]
-- ///
--
-- `finish_within`: how long a saga may take.
select saga_id, started_at, now() - started_at as running
from saga
where
    not coalesce(is_completed, false)
    and not coalesce(is_compensated, false)
    and started_at < now() - current_setting('race.finish_within')::interval
order by saga_id;
