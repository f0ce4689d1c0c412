-- /// db-race check
-- id       = "structure.duplicates_under_unique_index"
-- title    = "What a unique index says is unique is unique"
-- severity = "error"
-- key      = ["index", "value"]
-- tags     = ["structure", "constraints", "rows", "slow"]
-- timeout  = "10m"
-- remedy   = "delete or merge the duplicates, then REINDEX the index; look for what broke it: a new collation version (structure/collation_versions), a bad disk, a bad restore"
-- ///
--
-- An index that is damaged, or in another order than the operating system's collation has today, lets duplicates in
-- and does not find them. So the rows are counted here without any index: every table with a unique index is read and
-- sorted once for each of them. Up to 100 values are shown of each. B-tree indexes only.
with plain as materialized (
    select
        -- where row-level security hides rows from this role, it is an error: what can't be seen can't be judged
        set_config('row_security', 'off', true)
            -- not what the index itself says
            || set_config('enable_indexscan', 'off', true)
            || set_config('enable_indexonlyscan', 'off', true)
            || set_config('enable_bitmapscan', 'off', true) as settings
),
queries as (
    select
        format('%I.%I', n.nspname, i.relname) as index,
        format('%I.%I', tn.nspname, t.relname) as relation,
        format(
            'select jsonb_build_object(''value'', %s::text, ''rows'', count(*))::text as found
             from only %I.%I
             where %s and %s
             group by %s having count(*) > 1 limit 100',
            case when x.indnkeyatts = 1 then k.columns else 'row(' || k.columns || ')' end,
            tn.nspname, t.relname,
            coalesce(pg_get_expr(x.indpred, x.indrelid), 'true'),
            case
                when coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false) then 'true'
                else k.are_set
            end,
            k.columns
        ) as query
    from pg_catalog.pg_index x
    join pg_catalog.pg_class i on i.oid = x.indexrelid and i.relkind = 'i'
    join pg_catalog.pg_am m on m.oid = i.relam and m.amname = 'btree'
    join pg_catalog.pg_namespace n on n.oid = i.relnamespace
    join pg_catalog.pg_class t on t.oid = x.indrelid
    join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
    cross join lateral (
        select
            string_agg(e.expression, ', ' order by g.n) as columns,
            string_agg(format('(%s) is not null', e.expression), ' and ' order by g.n) as are_set
        from generate_series(1, x.indnkeyatts) as g (n)
        left join pg_catalog.pg_collation c on c.oid = x.indcollation[g.n - 1]
        left join pg_catalog.pg_namespace cn on cn.oid = c.collnamespace
        cross join lateral (
            select
                '(' || pg_get_indexdef(x.indexrelid, g.n, true) || ')'
                    || case when c.oid is null then '' else format(' collate %I.%I', cn.nspname, c.collname) end
        ) as e (expression)
    ) as k
    where x.indisunique and x.indisvalid and x.indisready and x.indislive
        -- others can't be read on a standby, or by other sessions
        and t.relpersistence = 'p' and t.relkind in ('r', 'm')
        and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
        and (t.relkind = 'r' or t.relispopulated)
)
select
    q.index,
    f.found ->> 'value' as value,
    (f.found ->> 'rows')::bigint as rows,
    q.relation
from plain p
cross join queries q
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(case p.settings when 'offoffoffoff' then q.query end, false, false, '')
    columns found jsonb
) as f
order by q.index, value;
