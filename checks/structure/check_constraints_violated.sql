-- /// db-race check
-- id       = "structure.check_constraints_violated"
-- title    = "Rows keep the CHECK and NOT NULL constraints that the server doesn't vouch for"
-- severity = "error"
-- key      = ["relation", "constraint_name", "row_id"]
-- tags     = ["structure", "constraints", "rows", "slow"]
-- timeout  = "10m"
-- remedy   = "mend the rows, then ALTER TABLE ... VALIDATE CONSTRAINT ...; a constraint may call immutable functions only, of the row alone"
-- ///
--
-- The server checks a row when it is written, and never again. So a constraint may be false of rows that were there
-- before it (NOT VALID), of all rows (NOT ENFORCED, PostgreSQL 18), and of any row when it calls a function of the
-- user's, which may have been changed or read other tables. Only these constraints are looked at: each reads its
-- table once. Rows are named by their primary key, or by their place (ctid). Up to 100 rows are shown of each.
with unrestricted as materialized (
    -- where row-level security hides rows from this role, it is an error: what can't be seen can't be judged
    select set_config('row_security', 'off', true) as row_security
),
queries as (
    select
        format('%I.%I', n.nspname, t.relname) as relation,
        c.conname as constraint_name,
        e.expression,
        format(
            'select jsonb_build_object(''row_id'', %s::text)::text as found from %s%I.%I where not (%s) limit 100',
            coalesce(k.columns, 'ctid'),
            case when c.connoinherit and t.relkind <> 'p' then 'only ' else '' end,
            n.nspname, t.relname, e.expression
        ) as query
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_class t on t.oid = c.conrelid
    join pg_catalog.pg_namespace n on n.oid = t.relnamespace
    cross join lateral (
        select case c.contype
            when 'c' then pg_get_expr(c.conbin, c.conrelid)
            else (
                select format('(%I is not null)', a.attname)
                from pg_catalog.pg_attribute a
                where a.attrelid = c.conrelid and a.attnum = c.conkey[1]
            )
        end
    ) as e (expression)
    left join lateral (
        select case x.indnkeyatts
            when 1 then min(quote_ident(a.attname))
            else 'row(' || string_agg(quote_ident(a.attname), ', ' order by u.n) || ')'
        end
        from pg_catalog.pg_index x
        cross join lateral unnest(x.indkey::int2[]) with ordinality as u (attnum, n)
        join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = u.attnum
        where x.indrelid = c.conrelid and x.indisprimary and u.n <= x.indnkeyatts
        group by x.indexrelid, x.indnkeyatts
    ) as k (columns) on true
    where (
        c.contype in ('c', 'n') and not c.convalidated
        or c.contype = 'c' and exists (
            -- the server's own functions are not listed there
            select
            from pg_catalog.pg_depend d
            where d.classid = 'pg_constraint'::regclass and d.objid = c.oid and d.refclassid = 'pg_proc'::regclass
        )
    )
        -- with that of its parent, a partition's copy was looked at
        and c.conislocal
        -- others can't be read on a standby, or by other sessions
        and t.relkind in ('r', 'p') and t.relpersistence = 'p'
)
select
    q.relation,
    q.constraint_name,
    f.found ->> 'row_id' as row_id,
    q.expression
from unrestricted u
cross join queries q
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(case u.row_security when 'off' then q.query end, false, false, '')
    columns found jsonb
) as f
order by q.relation, q.constraint_name, row_id;
