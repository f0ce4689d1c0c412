-- /// db-race check
-- id       = "structure.sequences_behind_column"
-- title    = "The next value of a sequence is beyond all that its column holds"
-- severity = "warn"
-- key      = ["sequence", "column_name"]
-- tags     = ["structure", "sequences", "rows"]
-- run_on   = "primary"
-- remedy   = "select setval(sequence, (select max(column) from table)), with the table locked against writers"
-- ///
--
-- Rows that were loaded with ids of their own leave the sequence where it was: sooner or later an insert is given an
-- id that is taken. Looks at columns that lead a B-tree index only, where the largest value is read from the index at
-- once, so it costs a few page reads a sequence. A standby is told of 32 values at once, and so is ahead of the
-- primary.
with unrestricted as materialized (
    -- where row-level security hides rows from this role, it is an error: what can't be seen can't be judged
    select set_config('row_security', 'off', true) as row_security
),
uses as (
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
pairs as (
    select
        format('%I.%I', sn.nspname, s.relname) as sequence,
        format('%I.%I.%I', tn.nspname, t.relname, a.attname) as column_name,
        q.seqincrement > 0 as is_ascending,
        format(
            'select jsonb_build_object(''next'', last_value + case when is_called then %s else 0 end::numeric,
                                       ''furthest'', (select %s(%I) from %I.%I))::text as found
             from %I.%I',
            q.seqincrement, case when q.seqincrement > 0 then 'max' else 'min' end, a.attname, tn.nspname, t.relname,
            sn.nspname, s.relname
        ) as query
    from pg_catalog.pg_sequence q
    join pg_catalog.pg_class s on s.oid = q.seqrelid
    join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
    join uses on uses.sequence = s.oid
    join pg_catalog.pg_class t on t.oid = uses.relation and t.relkind in ('r', 'p')
    join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
    join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum = uses.attnum
    where not q.seqcycle
        -- others can't be read on a standby, or by other sessions
        and s.relpersistence = 'p' and t.relpersistence = 'p'
        and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        and exists (
            select
            from pg_catalog.pg_index x
            join pg_catalog.pg_class i on i.oid = x.indexrelid
            join pg_catalog.pg_am m on m.oid = i.relam
            where x.indrelid = t.oid and x.indkey[0] = a.attnum and x.indisvalid and x.indpred is null
                and m.amname = 'btree'
        )
)
select
    p.sequence,
    p.column_name,
    (f.found ->> 'next')::numeric as next_value,
    (f.found ->> 'furthest')::numeric as furthest_in_column
from unrestricted u
cross join pairs p
-- generated SQL within one statement: read only, and on the same snapshot
cross join lateral xmltable(
    '/table/row' passing query_to_xml(case u.row_security when 'off' then p.query end, false, false, '')
    columns found jsonb
) as f
where case
    when p.is_ascending then (f.found ->> 'next')::numeric <= (f.found ->> 'furthest')::numeric
    else (f.found ->> 'next')::numeric >= (f.found ->> 'furthest')::numeric
end
order by p.sequence, p.column_name;
