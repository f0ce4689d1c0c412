-- /// db-race check
-- id       = "queue.done_and_queued"
-- title    = "What is done is neither queued nor held by a worker"
-- severity = "error"
-- key      = ["job_id"]
-- tags     = ["queue", "duplicate"]
-- remedy   = "finish a job by update ... where leased by me, and look at the number of rows; it will be done again"
--
-- [needs]
-- job = ["job_id", "is_queued", "is_leased", "is_done"]
-- ///
--
-- A job may be in several rows: where finished ones are moved, map job as the union of both tables.
select job_id, bool_or(is_queued) as is_queued, bool_or(is_leased) as is_leased, count(*) as rows
from job
group by job_id
having bool_or(is_done) and (bool_or(is_queued) or bool_or(is_leased))
order by job_id;
