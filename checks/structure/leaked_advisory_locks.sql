-- /// db-race check
-- id       = "structure.leaked_advisory_locks"
-- title    = "No idle session holds an advisory lock"
-- severity = "warn"
-- key      = ["lock", "usename", "application_name"]
-- tags     = ["structure", "sessions", "locks"]
-- params   = { advisory_lock_after = "1min" }
-- requires = { predicate = "pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')" }
-- remedy   = "pg_advisory_xact_lock instead: it ends with its transaction; through a pooler, a session's lock stays with the connection and nobody can give it back"
-- ///
--
-- A session that is idle is in no transaction, so its lock is the session's: it was not given back, and stays until
-- the connection ends. The lock is shown as it was asked for: one number, or two.
select
    case l.objsubid
        when 1 then (l.classid::bigint << 32 | l.objid::bigint)::text
        else format('%s, %s', l.classid::bigint::bit(32)::int, l.objid::bigint::bit(32)::int)
    end as lock,
    a.usename,
    a.application_name,
    l.mode,
    count(*) as sessions,
    date_trunc('second', max(clock_timestamp() - a.state_change)) as idle_for,
    string_agg(a.pid::text, ', ' order by a.pid) as pids
from pg_catalog.pg_locks l
join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted
    and a.datname = current_database()
    and a.state = 'idle'
    -- the connections of this run
    and a.application_name not like 'db-race/%'
    and a.state_change
        < clock_timestamp() - coalesce(nullif(current_setting('race.advisory_lock_after', true), ''), '1min')::interval
group by l.classid, l.objid, l.objsubid, l.mode, a.usename, a.application_name
order by lock, a.usename, a.application_name;
