-- /// db-race check
-- id       = "queue.lease_expired"
-- title    = "No job is held by a worker whose lease has run out"
-- severity = "warn"
-- key      = ["job_id"]
-- tags     = ["queue", "stuck"]
-- params   = { reap_within = "1 minute" }
-- remedy   = "see whether the job that takes expired leases back is running; their workers have died"
--
-- [needs]
-- job = ["job_id", "is_leased", "lease_expires_at"]
-- ///
--
-- `reap_within`: how late the job that takes leases back may be.
select job_id, lease_expires_at, now() - lease_expires_at as overdue
from job
where is_leased and lease_expires_at < now() - current_setting('race.reap_within')::interval
order by job_id;
