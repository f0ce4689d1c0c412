-- /// db-race check
-- id       = "structure.tables_without_key"
-- title    = "Every table has a primary key, or a unique key without NULLs"
-- severity = "warn"
-- key      = ["relation"]
-- tags     = ["structure", "constraints"]
-- remedy   = "add a primary key; for a table that is a log and nothing else, waive the finding"
-- ///
--
-- Nothing tells its rows apart: the same insert, tried again, is stored twice, and no row can be named to be mended.
select format('%I.%I', n.nspname, c.relname) as relation
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
    and not exists (
        select
        from pg_catalog.pg_index x
        where x.indrelid = c.oid and x.indisunique and x.indisvalid and x.indpred is null and x.indexprs is null
            and not exists (
                select
                from pg_catalog.pg_attribute a
                where a.attrelid = c.oid and not a.attnotnull
                    and a.attnum = any ((x.indkey::int2[])[0:x.indnkeyatts - 1])
            )
    )
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
order by relation;
