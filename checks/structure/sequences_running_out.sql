-- /// db-race check
-- id       = "structure.sequences_running_out"
-- title    = "No sequence has used up most of what it, or its column's type, can hold"
-- severity = "warn"
-- key      = ["sequence"]
-- tags     = ["structure", "sequences"]
-- requires = { predicate = "not exists (select from pg_catalog.pg_sequence join pg_catalog.pg_class on oid = seqrelid where relpersistence <> 't' and not has_sequence_privilege(seqrelid, 'select, usage'))" }
-- params   = { sequence_share_max = "0.8" }
-- remedy   = "make the column a bigint, and ALTER SEQUENCE ... AS bigint"
-- ///
--
-- A serial column of type integer has a sequence that may count on as bigint: the column is what overflows. A
-- sequence belongs to a column that owns it (serial, identity) or whose default calls it by name. Sequences that
-- start again (CYCLE) are left out.
with uses as (
    select objid as sequence, refobjid as relation, refobjsubid as attnum
    from pg_catalog.pg_depend
    where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass
        and deptype in ('a', 'i') and refobjsubid > 0
    union
    select d.refobjid, a.adrelid, a.adnum
    from pg_catalog.pg_depend d
    join pg_catalog.pg_attrdef a on a.oid = d.objid
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
),
used as (
    select
        uses.sequence,
        min(case a.atttypid when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 end) as highest,
        max(case a.atttypid when 'int2'::regtype then -32768 when 'int4'::regtype then -2147483648 end) as lowest,
        string_agg(format('%I.%I.%I', n.nspname, t.relname, a.attname), ', ' order by n.nspname, t.relname, a.attnum)
            as columns
    from uses
    join pg_catalog.pg_attribute a on a.attrelid = uses.relation and a.attnum = uses.attnum
    join pg_catalog.pg_class t on t.oid = a.attrelid and t.relkind in ('r', 'p', 'f')
    join pg_catalog.pg_namespace n on n.oid = t.relnamespace
    group by uses.sequence
),
bounds as (
    select
        s.*,
        format('%I.%I', n.nspname, c.relname) as name,
        least(s.seqmax, u.highest)::numeric as highest,
        greatest(s.seqmin, u.lowest)::numeric as lowest,
        u.columns,
        -- of an unlogged one it would be an error on a standby
        case when c.relpersistence = 'p' or not pg_is_in_recovery() then pg_sequence_last_value(c.oid) end as last_value
    from pg_catalog.pg_sequence s
    join pg_catalog.pg_class c on c.oid = s.seqrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join used u on u.sequence = s.seqrelid
    where not s.seqcycle and c.relpersistence <> 't'
)
select
    name as sequence,
    columns,
    last_value,
    case when seqincrement > 0 then highest else lowest end as limit,
    round(100 * share, 1) as percent_used,
    trunc(case when seqincrement > 0 then highest - last_value else last_value - lowest end / abs(seqincrement))
        as values_left
from bounds
cross join lateral (
    select
        case
            when seqincrement > 0 then (last_value - seqmin) / nullif(highest - seqmin, 0)
            else (seqmax - last_value) / nullif(seqmax - lowest, 0)
        end as share
) as shares
where share >= coalesce(nullif(current_setting('race.sequence_share_max', true), ''), '0.8')::numeric
order by name;
