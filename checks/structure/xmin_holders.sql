-- /// db-race check
-- id       = "structure.xmin_holders"
-- title    = "Nobody holds vacuum back by many transactions"
-- severity = "warn"
-- key      = ["kind", "name"]
-- tags     = ["structure", "sessions", "vacuum"]
-- params   = { xmin_age_max = "10000000" }
-- requires = { predicate = "pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')" }
-- remedy   = "end the session, drop the slot, or finish the prepared transaction; behind a standby it is a query there that runs with hot_standby_feedback"
-- ///
--
-- Rows that died after the oldest snapshot that somebody still holds are kept. Four kinds of holders, and only the
-- first is seen as a long transaction: a session, a replication slot, a prepared transaction, a standby.
with holders as (
    select 'session' as kind, format('%s (%s)', usename, application_name) as name, age(backend_xmin) as xmin_age
    from pg_catalog.pg_stat_activity
    where datname = current_database()
        -- the connections of this run
        and application_name not like 'db-race/%'
    union all
    select 'slot', slot_name, greatest(age(xmin), age(catalog_xmin))
    from pg_catalog.pg_replication_slots
    where database is null or database = current_database()
    union all
    select 'prepared transaction', gid, age(transaction)
    from pg_catalog.pg_prepared_xacts
    where database = current_database()
    union all
    select 'standby', application_name, age(backend_xmin)
    from pg_catalog.pg_stat_replication
)
select kind, name, max(xmin_age) as transactions_since
from holders
where xmin_age >= coalesce(nullif(current_setting('race.xmin_age_max', true), ''), '10000000')::bigint
group by kind, name
order by kind, name;
