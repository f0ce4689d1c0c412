-- /// db-race check
-- id       = "structure.unique_over_nullable"
-- title    = "Every unique key says what NULL means in it"
-- severity = "warn"
-- key      = ["index"]
-- tags     = ["structure", "constraints", "idempotency"]
-- remedy   = "make the column NOT NULL, use NULLS NOT DISTINCT (PostgreSQL 15), or say that NULLs may be many: a unique index ... WHERE column IS NOT NULL"
-- ///
--
-- NULLs are not equal: unique (email, deleted_at) lets in the same address twice as long as neither is deleted, and
-- an idempotency key that is NULL keeps nothing from being done twice.
select
    format('%I.%I', n.nspname, i.relname) as index,
    format('%I.%I', tn.nspname, t.relname) as relation,
    k.nullable
from pg_catalog.pg_index x
join pg_catalog.pg_class i on i.oid = x.indexrelid
join pg_catalog.pg_namespace n on n.oid = i.relnamespace
join pg_catalog.pg_class t on t.oid = x.indrelid
join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
cross join lateral (
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) as nullable
    from pg_catalog.pg_attribute a
    where a.attrelid = x.indrelid and not a.attnotnull
        and a.attnum = any ((x.indkey::int2[])[0:x.indnkeyatts - 1])
        and not coalesce(
            strpos(pg_get_expr(x.indpred, x.indrelid), format('(%I IS NOT NULL)', a.attname)) > 0, false
        )
) as k
where x.indisunique and not x.indisprimary and not i.relispartition
    and not coalesce((to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false)
    and k.nullable is not null
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = t.oid and d.deptype = 'e'
    )
order by index;
