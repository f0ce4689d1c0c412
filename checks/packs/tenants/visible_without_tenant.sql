-- /// db-race check
-- id       = "tenants.visible_without_tenant"
-- title    = "Without a tenant set, row-level security shows nobody's rows"
-- severity = "error"
-- key      = ["table_name"]
-- tags     = ["tenants", "canary"]
-- row_security = true
-- requires = { predicate = "exists (select from pg_class where relrowsecurity and row_security_active(oid))" }
-- remedy   = "enable row-level security on this table with a policy that compares with nullif(current_setting('app.tenant', true), '')"
--
-- [needs]
-- owned = ["table_name", "tenant_id"]
-- ///
--
-- To be run as the application's role: `--url` with its user. Under a role that row-level security doesn't hold for it is skipped. (As
-- the application's role all other checks see nothing, and must be run under one that sees everything.)
select table_name, count(*) as visible_rows, count(distinct tenant_id) as visible_tenants
from owned
where tenant_id is not null
group by table_name
order by table_name;
