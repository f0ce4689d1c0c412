-- /// db-race check
-- id       = "structure.constraints_not_enforced"
-- title    = "The triggers by which constraints are kept are on"
-- severity = "error"
-- key      = ["relation", "constraint_name"]
-- tags     = ["structure", "constraints"]
-- remedy   = "ALTER TABLE ... ENABLE TRIGGER ALL on the tables shown, after structure/foreign_key_orphans and structure/duplicates_under_unique_index have been put right"
-- ///
--
-- Foreign keys, and unique constraints that are deferrable, are kept by triggers of the server's own. ALTER TABLE ...
-- DISABLE TRIGGER ALL turns these off too, on the referencing table or on the referenced one, and the constraint
-- still looks as if it held.
select
    format('%I.%I', n.nspname, t.relname) as relation,
    c.conname as constraint_name,
    case c.contype when 'f' then 'foreign key' when 'x' then 'exclusion' else 'unique' end as kind,
    string_agg(distinct format('%I.%I', dn.nspname, d.relname), ', ') as disabled_on
from pg_catalog.pg_trigger g
join pg_catalog.pg_constraint c on c.oid = g.tgconstraint
join pg_catalog.pg_class t on t.oid = c.conrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_class d on d.oid = g.tgrelid
join pg_catalog.pg_namespace dn on dn.oid = d.relnamespace
-- D: disabled; R: fires for replicated changes only
where g.tgisinternal and g.tgenabled in ('D', 'R')
    -- a partition's is shown by that of its parent
    and not exists (
        select
        from pg_catalog.pg_trigger parent
        where c.conparentid <> 0 and parent.tgconstraint = c.conparentid and parent.tgenabled in ('D', 'R')
    )
group by n.nspname, t.relname, c.conname, c.contype
order by relation, constraint_name;
