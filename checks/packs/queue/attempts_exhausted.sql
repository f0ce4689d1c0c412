-- /// db-race check
-- id       = "queue.attempts_exhausted"
-- title    = "No job is tried more often than it may be"
-- severity = "error"
-- key      = ["job_id"]
-- tags     = ["queue", "integrity"]
-- remedy   = "count the attempt in the statement that takes the job, and give the job up there; a count that was read before loses another one's"
--
-- [needs]
-- job = ["job_id", "attempts", "attempts_max", "is_done", "is_dead"]
-- ///
select job_id, attempts, attempts_max
from job
where attempts > attempts_max and not coalesce(is_done, false) and not coalesce(is_dead, false)
order by job_id;
