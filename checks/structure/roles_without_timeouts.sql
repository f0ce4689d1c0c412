-- /// db-race check
-- id       = "structure.roles_without_timeouts"
-- title    = "Roles that log in have a lock_timeout and an idle_in_transaction_session_timeout"
-- severity = "warn"
-- key      = ["role", "setting"]
-- tags     = ["structure", "roles", "locks"]
-- remedy   = "ALTER ROLE ... SET lock_timeout = '5s'; ALTER ROLE ... SET idle_in_transaction_session_timeout = '1min'"
-- ///
--
-- Without the first a session waits for a lock for ever, and all who come after it wait with it; without the second,
-- one forgotten COMMIT keeps locks until somebody is woken up. Looks at what roles get at login: set for the role in
-- this database, the role, this database, all roles, or in the configuration. A client may set its own after that,
-- which can't be seen here; and what the configuration says is seen as it is for the role that asks. Roles with a
-- part in this database (owner of something, or granted something), without superusers, replication and the role that
-- asks.
with roles as (
    select r.oid, r.rolname
    from pg_catalog.pg_roles r
    where r.rolcanlogin and not r.rolsuper and not r.rolreplication and r.rolname <> current_user
        and has_database_privilege(r.oid, current_database(), 'connect')
        and exists (
            select
            from pg_catalog.pg_shdepend d
            join pg_catalog.pg_database b on b.oid = d.dbid and b.datname = current_database()
            where d.refclassid = 'pg_authid'::regclass and pg_has_role(r.oid, d.refobjid, 'usage')
        )
),
settings as (
    select name, reset_val
    from pg_catalog.pg_settings
    where name in ('lock_timeout', 'idle_in_transaction_session_timeout')
)
select r.rolname as role, s.name as setting, v.value
from roles r
cross join settings s
cross join lateral (
    select coalesce(
        (
            select substring(c.entry from '=(.*)')
            from pg_catalog.pg_db_role_setting rs
            cross join unnest(rs.setconfig) as c (entry)
            where rs.setrole in (r.oid, 0)
                and rs.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
                and split_part(c.entry, '=', 1) = s.name
            -- what is for the role wins over what is for the database
            order by rs.setrole = 0, rs.setdatabase = 0
            limit 1
        ),
        s.reset_val
    )
) as v (value)
-- 0, whatever its unit, is none
where v.value !~ '[1-9]'
order by role, setting;
