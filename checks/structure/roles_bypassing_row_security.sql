-- /// db-race check
-- id       = "structure.roles_bypassing_row_security"
-- title    = "No role that logs in bypasses row-level security"
-- severity = "warn"
-- key      = ["role"]
-- tags     = ["structure", "row-level security", "roles"]
-- remedy   = "ALTER ROLE ... NOBYPASSRLS; for backups and reports, waive the finding"
-- ///
--
-- Roles with BYPASSRLS that have a part in this database (owner of something, or granted something), where some table
-- has row-level security. Without superusers and the role that asks.
select r.rolname as role
from pg_catalog.pg_roles r
where r.rolbypassrls and r.rolcanlogin and not r.rolsuper and r.rolname <> current_user
    and exists (select from pg_catalog.pg_class c where c.relrowsecurity)
    and exists (
        select
        from pg_catalog.pg_shdepend d
        join pg_catalog.pg_database b on b.oid = d.dbid and b.datname = current_database()
        where d.refclassid = 'pg_authid'::regclass and pg_has_role(r.oid, d.refobjid, 'usage')
    )
order by role;
