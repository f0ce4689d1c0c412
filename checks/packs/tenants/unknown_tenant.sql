-- /// db-race check
-- id       = "tenants.unknown_tenant"
-- title    = "Every row's tenant exists"
-- severity = "error"
-- key      = ["table_name", "row_id"]
-- tags     = ["tenants", "integrity"]
-- remedy   = "add a foreign key to the tenants; rows of one that was deleted can't be exported or deleted with it"
--
-- [needs]
-- owned  = ["table_name", "row_id", "tenant_id"]
-- tenant = ["tenant_id"]
-- ///
select table_name, row_id, owned.tenant_id
from owned
where
    owned.tenant_id::text <> ''
    and not exists (select from tenant where tenant.tenant_id::text = owned.tenant_id::text)
order by table_name, row_id;
