-- /// db-race check
-- id       = "tenants.crosses_tenants"
-- title    = "No row refers to a row of another tenant"
-- severity = "error"
-- key      = ["link_name", "child_id"]
-- tags     = ["tenants", "integrity"]
-- remedy   = "put the tenant into the foreign key: foreign key (tenant_id, parent_id) references parent (tenant_id, id)"
--
-- [needs]
-- link = ["link_name", "child_id", "child_tenant_id", "parent_id", "parent_tenant_id"]
-- ///
--
-- A row without a tenant is shared by all, or is an error that without_tenant tells of.
select link_name, child_id, child_tenant_id, parent_id, parent_tenant_id
from link
where child_tenant_id <> parent_tenant_id
order by link_name, child_id;
