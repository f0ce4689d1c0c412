-- /// db-race check
-- id       = "structure.transaction_id_age"
-- title    = "No table comes near the end of transaction ids"
-- severity = "warn"
-- key      = ["relation"]
-- tags     = ["structure", "vacuum"]
-- params   = { transaction_id_age_max = "400000000", multixact_age_max = "800000000" }
-- remedy   = "find out why autovacuum does not get there (structure/xmin_holders, its locks, its cost limits), then VACUUM (FREEZE) the table"
-- ///
--
-- After some two billion transactions without a freezing vacuum the server stops writing. Autovacuum begins at 200
-- million (400 million multixacts): twice that says that it does not keep up. Temporary tables of sessions that went
-- wrong count: nobody can vacuum them, drop them.
select
    format('%I.%I', n.nspname, c.relname) as relation,
    greatest(age(c.relfrozenxid), age(t.relfrozenxid)) as transaction_id_age,
    greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) as multixact_age
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
where c.relkind in ('r', 'm')
    and n.nspname not in ('pg_catalog', 'information_schema')
    and (
        greatest(age(c.relfrozenxid), age(t.relfrozenxid))
            >= coalesce(nullif(current_setting('race.transaction_id_age_max', true), ''), '400000000')::bigint
        or greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid))
            >= coalesce(nullif(current_setting('race.multixact_age_max', true), ''), '800000000')::bigint
    )
order by relation;
