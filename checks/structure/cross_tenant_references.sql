-- /// db-race check
-- id       = "structure.cross_tenant_references"
-- title    = "No row refers to a row of another tenant"
-- severity = "error"
-- key      = ["relation", "constraint_name", "row_id"]
-- tags     = ["structure", "tenants", "rows", "slow"]
-- timeout  = "10m"
-- params   = { tenant_columns = "tenant, tenant_id, org_id, organization_id, organisation_id, workspace_id" }
-- remedy   = "put the tenant into the foreign key: FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id)"
-- ///
--
-- Foreign keys are checked without regard to row-level security, so whoever knows or guesses an id can refer to
-- another tenant's row. Looks at foreign keys that leave the tenant out although both tables have a column of the
-- same name, one of `tenant_columns`. Rows without a tenant belong to all. One join for each such foreign key; up to
-- 100 rows are shown of each, by their primary key, or by their place (ctid).
with unrestricted as materialized (
    -- where row-level security hides rows from this role, it is an error: what can't be seen can't be judged
    select set_config('row_security', 'off', true) as row_security
),
names as (
    select trim(n) as name
    from unnest(string_to_array(
        coalesce(
            nullif(current_setting('race.tenant_columns', true), ''),
            'tenant, tenant_id, org_id, organization_id, organisation_id, workspace_id'
        ),
        ','
    )) as n
),
keys as (
    select
        c.oid,
        string_agg(
            format('p.%I operator(%I.%s) f.%I', pa.attname, opn.nspname, op.oprname, fa.attname), ' and '
            order by k.n
        ) as is_same
    from pg_catalog.pg_constraint c
    cross join lateral unnest(c.conkey, c.confkey, c.conpfeqop) with ordinality as k (f, p, operator, n)
    join pg_catalog.pg_attribute fa on fa.attrelid = c.conrelid and fa.attnum = k.f
    join pg_catalog.pg_attribute pa on pa.attrelid = c.confrelid and pa.attnum = k.p
    join pg_catalog.pg_operator op on op.oid = k.operator
    join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace
    where c.contype = 'f' and c.conparentid = 0
    group by c.oid
),
queries as (
    select
        format('%I.%I', fn.nspname, f.relname) as relation,
        c.conname as constraint_name,
        format(
            'select jsonb_build_object(''row_id'', %1$s::text, ''tenant'', f.%2$I, ''other_tenant'', p.%2$I)::text as found
             from %3$I.%4$I f join %5$I.%6$I p on %7$s where f.%2$I <> p.%2$I limit 100',
            coalesce(i.columns, 'f.ctid'), ft.attname, fn.nspname, f.relname, pn.nspname, p.relname, k.is_same
        ) as query
    from keys k
    join pg_catalog.pg_constraint c on c.oid = k.oid
    join pg_catalog.pg_class f on f.oid = c.conrelid
    join pg_catalog.pg_namespace fn on fn.oid = f.relnamespace
    join pg_catalog.pg_class p on p.oid = c.confrelid
    join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
    cross join names
    join pg_catalog.pg_attribute ft on ft.attrelid = f.oid and ft.attname = names.name and not ft.attisdropped
    join pg_catalog.pg_attribute pt on pt.attrelid = p.oid and pt.attname = names.name and pt.atttypid = ft.atttypid
    left join lateral (
        select case x.indnkeyatts
            when 1 then min(format('f.%I', a.attname))
            else 'row(' || string_agg(format('f.%I', a.attname), ', ' order by u.n) || ')'
        end
        from pg_catalog.pg_index x
        cross join lateral unnest(x.indkey::int2[]) with ordinality as u (attnum, n)
        join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = u.attnum
        where x.indrelid = f.oid and x.indisprimary and u.n <= x.indnkeyatts
        group by x.indexrelid, x.indnkeyatts
    ) as i (columns) on true
    -- a key with the tenant in it can't leave the tenant
    where not ft.attnum = any (c.conkey)
        -- others can't be read on a standby, or by other sessions
        and f.relpersistence = 'p' and p.relpersistence = 'p'
)
select
    q.relation,
    q.constraint_name,
    f.found ->> 'row_id' as row_id,
    f.found ->> 'tenant' as tenant,
    f.found ->> 'other_tenant' as other_tenant
from unrestricted u
cross join queries q
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(case u.row_security when 'off' then q.query end, false, false, '')
    columns found jsonb
) as f
order by q.relation, q.constraint_name, row_id;
