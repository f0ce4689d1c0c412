-- /// db-race check
-- id       = "structure.rows_in_default_partition"
-- title    = "Default partitions are empty"
-- severity = "warn"
-- key      = ["partition"]
-- tags     = ["structure", "partitions", "rows"]
-- remedy   = "make the partition that is missing: detach the default one, move its rows into the table, attach it again"
-- ///
--
-- Rows there have no partition of their own, and as long as they are there that partition can't be made: ATTACH, and
-- CREATE ... PARTITION OF, fail. Costs one row of each default partition.
with unrestricted as materialized (
    -- where row-level security hides rows from this role, it is an error: what can't be seen can't be judged
    select set_config('row_security', 'off', true) as row_security
),
defaults as (
    select
        format('%I.%I', n.nspname, c.relname) as partition,
        format('%I.%I', pn.nspname, p.relname) as parent
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_inherits i on i.inhrelid = c.oid
    join pg_catalog.pg_class p on p.oid = i.inhparent
    join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
    where c.relispartition and pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
        -- others can't be read on a standby, or by other sessions, or are on another server
        and c.relkind in ('r', 'p') and c.relpersistence = 'p'
)
select d.partition, d.parent
from unrestricted u
cross join defaults d
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(
        case u.row_security when 'off' then format('select 1 as found from %s limit 1', d.partition) end,
        false, false, ''
    )
    columns found int
) as f
order by d.partition;
