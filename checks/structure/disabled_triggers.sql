-- /// db-race check
-- id       = "structure.disabled_triggers"
-- title    = "No trigger is disabled"
-- severity = "warn"
-- key      = ["relation", "trigger_name"]
-- tags     = ["structure", "triggers"]
-- remedy   = "ALTER TABLE ... ENABLE TRIGGER ..., after what it did not do was done; DROP TRIGGER when it is not wanted any more"
-- ///
--
-- Those that keep constraints are found by structure/constraints_not_enforced. One that is meant for replicas (ENABLE
-- REPLICA TRIGGER) is not disabled.
select
    format('%I.%I', n.nspname, t.relname) as relation,
    g.tgname as trigger_name,
    format('%I.%I', pn.nspname, p.proname) as function
from pg_catalog.pg_trigger g
join pg_catalog.pg_class t on t.oid = g.tgrelid
join pg_catalog.pg_namespace n on n.oid = t.relnamespace
join pg_catalog.pg_proc p on p.oid = g.tgfoid
join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
where g.tgenabled = 'D' and not g.tgisinternal
    -- a partition's is shown by that of its parent
    and not exists (
        select from pg_catalog.pg_trigger parent where parent.oid = g.tgparentid and parent.tgenabled = 'D'
    )
order by relation, trigger_name;
