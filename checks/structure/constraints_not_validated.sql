-- /// db-race check
-- id       = "structure.constraints_not_validated"
-- title    = "Every constraint was validated against the rows that were there before it"
-- severity = "warn"
-- key      = ["relation", "constraint_name"]
-- tags     = ["structure", "constraints"]
-- remedy   = "ALTER TABLE ... VALIDATE CONSTRAINT ...; structure/foreign_key_orphans and structure/check_constraints_violated find the rows that stand in its way"
-- ///
--
-- NOT VALID, or NOT ENFORCED (PostgreSQL 18): older rows, or all of them, may break it. Copies that partitions and
-- inheriting tables have of a constraint are validated with it, so only the original is shown.
select
    format('%I.%I', n.nspname, coalesce(r.relname, t.typname)) as relation,
    c.conname as constraint_name,
    case c.contype when 'c' then 'check' when 'f' then 'foreign key' when 'n' then 'not null' end as kind,
    coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) as is_enforced
from pg_catalog.pg_constraint c
join pg_catalog.pg_namespace n on n.oid = c.connamespace
left join pg_catalog.pg_class r on r.oid = c.conrelid
left join pg_catalog.pg_type t on t.oid = c.contypid
where not c.convalidated and c.conislocal
order by relation, constraint_name;
