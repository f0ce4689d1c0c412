-- /// db-race check
-- id       = "booking.expired_hold_blocks"
-- title    = "No hold is still active after its expiry"
-- severity = "warn"
-- key      = ["hold_id"]
-- tags     = ["booking", "stuck"]
-- params   = { sweep_within = "1 minute" }
-- remedy   = "see whether the job that takes expired holds back is running; until it has, nobody can book what they hold"
--
-- [needs]
-- hold = ["hold_id", "is_active", "expires_at"]
-- ///
--
-- `sweep_within`: how late the job that takes holds back may be.
select hold_id, expires_at, now() - expires_at as overdue
from hold
where is_active and expires_at < now() - current_setting('race.sweep_within')::interval
order by hold_id;
