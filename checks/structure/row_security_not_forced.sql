-- /// db-race check
-- id       = "structure.row_security_not_forced"
-- title    = "Row-level security holds for owners that log in"
-- severity = "warn"
-- key      = ["relation"]
-- tags     = ["structure", "row-level security"]
-- remedy   = "let the application log in as another role than the owner, or ALTER TABLE ... FORCE ROW LEVEL SECURITY"
-- ///
--
-- A table's owner is above its policies unless they are forced. An application that logs in as the role that made the
-- tables sees every tenant's rows. Owners that are superusers are above forced ones too, so nothing is said of them.
select
    format('%I.%I', n.nspname, c.relname) as relation,
    o.rolname as owner
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_roles o on o.oid = c.relowner
where c.relkind in ('r', 'p') and c.relrowsecurity and not c.relforcerowsecurity
    and o.rolcanlogin and not o.rolsuper and not o.rolbypassrls
order by relation;
