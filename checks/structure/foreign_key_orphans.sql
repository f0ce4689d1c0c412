-- /// db-race check
-- id       = "structure.foreign_key_orphans"
-- title    = "Every row that a foreign key refers to is there"
-- severity = "error"
-- key      = ["relation", "constraint_name", "missing"]
-- tags     = ["structure", "constraints", "rows", "slow"]
-- timeout  = "10m"
-- remedy   = "insert what is missing or delete the orphans, then look for who wrote with session_replication_role = replica, with triggers disabled, or restored a part"
-- ///
--
-- A foreign key is kept by triggers, and whoever turns them off leaves rows behind that nothing finds again: a
-- restore with --disable-triggers, session_replication_role, NOT VALID, logical replication.
--
-- One anti-join for every foreign key of the database: it reads every referencing table once. Up to 1,000 missing
-- rows are shown of each. Temporal foreign keys (PERIOD) are left out.
with unrestricted as materialized (
    -- where row-level security hides rows from this role, it is an error: a hidden row is not a missing one
    select set_config('row_security', 'off', true) as row_security
),
keys as (
    select
        c.oid,
        string_agg(format('f.%I', fa.attname), ', ' order by k.n) as columns,
        string_agg(
            format('f.%I is not null', fa.attname),
            -- MATCH FULL: one NULL among values breaks it
            case c.confmatchtype when 'f' then ' or ' else ' and ' end
            order by k.n
        ) as is_set,
        string_agg(
            format('p.%I%s operator(%I.%s) f.%I', pa.attname, l.collate_clause, opn.nspname, op.oprname, fa.attname),
            ' and '
            order by k.n
        ) as is_same
    from pg_catalog.pg_constraint c
    cross join lateral unnest(c.conkey, c.confkey, c.conpfeqop) with ordinality as k (f, p, operator, n)
    join pg_catalog.pg_attribute fa on fa.attrelid = c.conrelid and fa.attnum = k.f
    join pg_catalog.pg_attribute pa on pa.attrelid = c.confrelid and pa.attnum = k.p
    join pg_catalog.pg_operator op on op.oid = k.operator
    join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace
    left join pg_catalog.pg_collation co on co.oid = pa.attcollation and pa.attcollation <> fa.attcollation
    left join pg_catalog.pg_namespace con on con.oid = co.collnamespace
    cross join lateral (
        select case when co.oid is null then '' else format(' collate %I.%I', con.nspname, co.collname) end
    ) as l (collate_clause)
    where c.contype = 'f' and c.conparentid = 0
        -- PostgreSQL 18: what is referred to may be several rows together
        and not coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false)
    group by c.oid, c.confmatchtype
),
queries as (
    select
        format('%I.%I', fn.nspname, f.relname) as relation,
        c.conname as constraint_name,
        format('%I.%I', pn.nspname, p.relname) as referenced,
        k.columns,
        format(
            'select jsonb_build_object(''missing'', missing, ''rows'', count(*))::text as found
             from (
                 select %s::text as missing
                 from %s%I.%I f
                 where (%s) and not exists (select from %s%I.%I p where %s)
             ) as orphans
             group by missing order by missing limit 1000',
            case when cardinality(c.conkey) = 1 then k.columns else 'row(' || k.columns || ')' end,
            -- children by inheritance are outside of a foreign key, partitions are inside
            case f.relkind when 'p' then '' else 'only ' end, fn.nspname, f.relname, k.is_set,
            case p.relkind when 'p' then '' else 'only ' end, pn.nspname, p.relname, k.is_same
        ) as query
    from keys k
    join pg_catalog.pg_constraint c on c.oid = k.oid
    join pg_catalog.pg_class f on f.oid = c.conrelid
    join pg_catalog.pg_namespace fn on fn.oid = f.relnamespace
    join pg_catalog.pg_class p on p.oid = c.confrelid
    join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
    -- others can't be read on a standby, or by other sessions
    where f.relpersistence = 'p' and p.relpersistence = 'p'
)
select
    q.relation,
    q.constraint_name,
    f.found ->> 'missing' as missing,
    (f.found ->> 'rows')::bigint as rows,
    q.referenced
from unrestricted u
cross join queries q
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(case u.row_security when 'off' then q.query end, false, false, '')
    columns found jsonb
) as f
order by q.relation, q.constraint_name, missing;
