-- /// db-race check
-- id       = "structure.partitions_running_out"
-- title    = "Tables that are partitioned by time have a partition for tomorrow"
-- severity = "warn"
-- key      = ["relation"]
-- tags     = ["structure", "partitions"]
-- params   = { partitions_ahead = "1 day" }
-- remedy   = "make the next partitions now, and find out why the job that does it did not"
-- ///
--
-- Without it inserts fail from then on, or go into the default partition. Tables whose last partition ended more than
-- a year ago are taken for archives.
with tables as materialized (
    select
        c.oid,
        format('%I.%I', n.nspname, c.relname) as relation,
        quote_ident(a.attname) as column_name
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_partitioned_table p on p.partrelid = c.oid
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
    where p.partstrat = 'r' and p.partnatts = 1
        and a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
),
ends as materialized (
    select
        t.relation,
        t.column_name,
        -- FOR VALUES FROM ('2030-01-01') TO ('2030-02-01')
        max(substring(b.bound from ' TO \(''(.*)''\)$')::timestamptz) as partitions_end,
        bool_or(b.bound like '% TO (MAXVALUE)') as is_open
    from tables t
    join pg_catalog.pg_inherits i on i.inhparent = t.oid
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_get_expr(c.relpartbound, c.oid)) as b (bound)
    group by t.relation, t.column_name
)
select relation, column_name, partitions_end
from ends
where not is_open
    and partitions_end
        between now() - interval '1 year'
        and now() + coalesce(nullif(current_setting('race.partitions_ahead', true), ''), '1 day')::interval
order by relation;
