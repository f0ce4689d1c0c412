-- /// db-race check
-- id       = "structure.foreign_keys_without_index"
-- title    = "Every foreign key has an index that begins with its columns"
-- severity = "warn"
-- key      = ["relation", "constraint_name"]
-- tags     = ["structure", "indexes", "locks"]
-- remedy   = "CREATE INDEX CONCURRENTLY on its columns; a table that stays small, or whose referenced rows are never deleted, may go without"
-- ///
--
-- Without one, deleting a referenced row, or changing its key, reads the whole referencing table while it holds the
-- row's lock. The columns may stand in any order. A partial index serves where its condition only leaves out the
-- NULLs of a foreign key of one column.
select
    format('%I.%I', n.nspname, t.relname) as relation,
    c.conname as constraint_name,
    k.columns,
    format('%I.%I', rn.nspname, r.relname) as referenced
from pg_catalog.pg_constraint c
join pg_catalog.pg_class t on t.oid = c.conrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_class r on r.oid = c.confrelid
join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
cross join lateral (
    select
        string_agg(quote_ident(a.attname), ', ' order by u.n) as columns,
        format('(%I IS NOT NULL)', min(a.attname)) as first_is_set
    from unnest(c.conkey) with ordinality as u (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = u.attnum
) as k
where c.contype = 'f' and c.conparentid = 0
    and not exists (
        select
        from pg_catalog.pg_index x
        join pg_catalog.pg_class i on i.oid = x.indexrelid
        join pg_catalog.pg_am m on m.oid = i.relam
        where x.indrelid = c.conrelid and x.indisvalid
            and (m.amname = 'btree' or m.amname = 'hash' and cardinality(c.conkey) = 1)
            -- int2vector counts from 0; both hold no column twice
            and (x.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
            and (
                x.indpred is null
                or cardinality(c.conkey) = 1 and pg_get_expr(x.indpred, x.indrelid) = k.first_is_set
            )
    )
order by relation, constraint_name;
