-- /// db-race check
-- id       = "structure.idle_in_transaction"
-- title    = "No session is idle in a transaction for long"
-- severity = "warn"
-- key      = ["usename", "application_name"]
-- tags     = ["structure", "sessions", "locks"]
-- params   = { idle_in_transaction_after = "5min" }
-- requires = { predicate = "pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')" }
-- remedy   = "find the code that waits for something else between BEGIN and COMMIT; idle_in_transaction_session_timeout ends such sessions"
-- ///
--
-- It keeps its locks while nothing is done, and a pool that lends it out lends the transaction with it. Summed up by
-- user and application, because a process id means nothing tomorrow.
select
    usename,
    application_name,
    count(*) as sessions,
    date_trunc('second', max(clock_timestamp() - state_change)) as idle_for,
    date_trunc('second', max(clock_timestamp() - xact_start)) as in_transaction_for,
    string_agg(pid::text, ', ' order by state_change) as pids
from pg_catalog.pg_stat_activity
where datname = current_database()
    and backend_type = 'client backend'
    and state in ('idle in transaction', 'idle in transaction (aborted)')
    -- the connections of this run
    and application_name not like 'db-race/%'
    and state_change
        < clock_timestamp()
            - coalesce(nullif(current_setting('race.idle_in_transaction_after', true), ''), '5min')::interval
group by usename, application_name
order by usename, application_name;
