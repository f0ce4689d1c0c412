-- The columns of the user's tables and views that this role may read, with all that says what they hold. Partitions are
-- left out, their parents are there; so is what belongs to an extension.
select
    format('%I.%I', n.nspname, c.relname) as "table",
    c.relname::text as table_name,
    quote_ident(a.attname) as "column",
    a.attname::text as column_name,
    case when t.typtype = 'd' then base.typcategory else t.typcategory end::text as category,
    -- the primary key of its table
    array(
        select quote_ident(p.attname)
        from pg_constraint as k
        cross join unnest(k.conkey) with ordinality as u (attnum, place)
        join pg_attribute as p on p.attrelid = k.conrelid and p.attnum = u.attnum
        where k.conrelid = c.oid and k.contype = 'p'
        order by u.place
    ) as key,
    -- names of states: an enum's labels, or what check constraints on this column alone quote
    array(select e.enumlabel::text from pg_enum as e where e.enumtypid = a.atttypid order by e.enumsortorder) as labels,
    array(
        select pg_get_constraintdef(k.oid)
        from pg_constraint as k
        where k.contype = 'c' and (k.conrelid = c.oid and k.conkey = array[a.attnum] or k.contypid = a.atttypid and a.atttypid <> 0)
        order by k.conname
    ) as conditions,
    -- what was seen in it by the last ANALYZE
    array(
        select v
        from pg_stats as s, unnest(s.most_common_vals::text::text[]) as v
        where
            s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
            and t.typcategory in ('S', 'N')
    ) as common
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type as t on t.oid = a.atttypid
left join pg_type as base on base.oid = t.typbasetype
where
    c.relkind in ('r', 'p', 'v', 'm', 'f')
    and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema')
    and n.nspname !~ '^pg_(toast|temp)'
    and has_schema_privilege(n.oid, 'usage')
    and has_any_column_privilege(c.oid, 'select')
    and not exists (
        select
        from pg_depend as d
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
order by n.nspname, c.relname, a.attnum;
