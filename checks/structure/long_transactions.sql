-- /// db-race check
-- id       = "structure.long_transactions"
-- title    = "No transaction runs for long"
-- severity = "warn"
-- key      = ["usename", "application_name"]
-- tags     = ["structure", "sessions", "locks", "vacuum"]
-- params   = { transaction_after = "1h" }
-- requires = { predicate = "pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')" }
-- remedy   = "cut it into smaller ones, or move it to a standby; transaction_timeout (PostgreSQL 17) ends such transactions"
-- ///
--
-- Whether it works or waits: nothing that died since it began can be vacuumed away.
select
    usename,
    application_name,
    count(*) as sessions,
    date_trunc('second', max(clock_timestamp() - xact_start)) as longest,
    string_agg(distinct state, ', ') as states,
    string_agg(pid::text, ', ' order by xact_start) as pids
from pg_catalog.pg_stat_activity
where datname = current_database()
    and backend_type = 'client backend'
    -- the connections of this run
    and application_name not like 'db-race/%'
    and xact_start
        < clock_timestamp() - coalesce(nullif(current_setting('race.transaction_after', true), ''), '1h')::interval
group by usename, application_name
order by usename, application_name;
