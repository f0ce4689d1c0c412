-- Foreign keys, without those that partitions have from their parents.
select
    k.conname::text as name,
    format('%I.%I', n.nspname, c.relname) as "table",
    format('%I.%I', pn.nspname, p.relname) as refers_to,
    array(
        select quote_ident(a.attname)
        from unnest(k.conkey) with ordinality as u (attnum, place)
        join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.attnum
        order by u.place
    ) as columns,
    array(
        select quote_ident(a.attname)
        from unnest(k.confkey) with ordinality as u (attnum, place)
        join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = u.attnum
        order by u.place
    ) as referred
from pg_constraint as k
join pg_class as c on c.oid = k.conrelid
join pg_namespace as n on n.oid = c.relnamespace
join pg_class as p on p.oid = k.confrelid
join pg_namespace as pn on pn.oid = p.relnamespace
where k.contype = 'f' and k.conparentid = 0 and not c.relispartition
order by n.nspname, c.relname, k.conname;
