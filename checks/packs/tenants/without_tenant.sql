-- /// db-race check
-- id       = "tenants.without_tenant"
-- title    = "Every row has a tenant"
-- severity = "error"
-- key      = ["table_name", "row_id"]
-- tags     = ["tenants", "integrity"]
-- remedy   = "set the column not null; an empty one comes from current_setting('app.tenant', true), which is '' and not null after a set local: use nullif(..., '')"
--
-- [needs]
-- owned = ["table_name", "row_id", "tenant_id"]
-- ///
select table_name, row_id, tenant_id
from owned
where tenant_id is null or tenant_id::text = ''
order by table_name, row_id;
