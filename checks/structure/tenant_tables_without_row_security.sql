-- /// db-race check
-- id       = "structure.tenant_tables_without_row_security"
-- title    = "Where some tables of tenants have row-level security, all have"
-- severity = "warn"
-- key      = ["relation"]
-- tags     = ["structure", "row-level security", "tenants"]
-- params   = { tenant_columns = "tenant, tenant_id, org_id, organization_id, organisation_id, workspace_id" }
-- remedy   = "ALTER TABLE ... ENABLE ROW LEVEL SECURITY, with the policy that the other tables have"
-- ///
--
-- A table of tenants has a column of one of the names in `tenant_columns`. Where no table of the database has
-- row-level security, the application keeps tenants apart by itself, and nothing is said. A partition counts with its
-- parent.
with names as (
    select trim(n) as name
    from unnest(string_to_array(
        coalesce(
            nullif(current_setting('race.tenant_columns', true), ''),
            'tenant, tenant_id, org_id, organization_id, organisation_id, workspace_id'
        ),
        ','
    )) as n
),
tables as (
    select distinct c.oid, c.relname, c.relnamespace, c.relrowsecurity
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join names on names.name = a.attname
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
)
select format('%I.%I', n.nspname, t.relname) as relation
from tables t
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
where not t.relrowsecurity and exists (select from tables where relrowsecurity)
order by relation;
