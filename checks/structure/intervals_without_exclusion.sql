-- /// db-race check
-- id       = "structure.intervals_without_exclusion"
-- title    = "Tables of intervals have a constraint against overlaps"
-- severity = "warn"
-- key      = ["relation", "interval_columns"]
-- tags     = ["structure", "constraints", "booking"]
-- remedy   = "EXCLUDE USING gist (resource WITH =, tstzrange(starts_at, ends_at) WITH &&), with btree_gist; waive the finding where intervals may overlap"
-- ///
--
-- Two transactions that look for a free interval don't see each other: only an exclusion constraint (or WITHOUT
-- OVERLAPS, PostgreSQL 18) keeps their intervals apart. A guess by types and names: a range column, or two columns of
-- dates or times whose names are the same but for start/end, from/to, check_in/ check_out and the like. Tables that
-- have an exclusion constraint of any kind are left out.
with tables as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as relation
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
        and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
        and not exists (
            select from pg_catalog.pg_index x where x.indrelid = c.oid and x.indisexclusion
        )
        and not exists (
            select
            from pg_catalog.pg_depend d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        )
),
columns as (
    select a.attrelid, a.attname, a.atttypid
    from tables t
    join pg_catalog.pg_attribute a on a.attrelid = t.oid
    where a.attnum > 0 and not a.attisdropped
        and a.atttypid in (
            'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
            'daterange'::regtype, 'tsrange'::regtype, 'tstzrange'::regtype
        )
),
words (first, last) as (
    values
        ('start', 'end'), ('starts', 'ends'), ('begin', 'end'), ('begins', 'ends'), ('from', 'to'), ('from', 'until'),
        ('from', 'till'), ('since', 'until'), ('check_in', 'check_out'), ('checkin', 'checkout'),
        ('arrival', 'departure'), ('arrives', 'departs'), ('pickup', 'return')
),
intervals as (
    select attrelid, quote_ident(attname) as interval_columns
    from columns
    where atttypid in ('daterange'::regtype, 'tsrange'::regtype, 'tstzrange'::regtype)
    union
    select f.attrelid, format('%I, %I', f.attname, l.attname)
    from columns f
    join words w on f.attname ~ format('(^|_)%s(_|$)', w.first)
    join columns l
        on l.attrelid = f.attrelid and l.atttypid = f.atttypid
            and l.attname = regexp_replace(f.attname, format('(^|_)%s(_|$)', w.first), format('\1%s\2', w.last))
    where f.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
)
select t.relation, i.interval_columns
from tables t
join intervals i on i.attrelid = t.oid
order by t.relation, i.interval_columns;
