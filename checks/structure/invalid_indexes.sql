-- /// db-race check
-- id       = "structure.invalid_indexes"
-- title    = "No index is invalid"
-- severity = "error"
-- key      = ["index"]
-- tags     = ["structure", "indexes"]
-- run_on   = "primary"
-- remedy   = "DROP INDEX CONCURRENTLY it and build it again, or REINDEX INDEX CONCURRENTLY; one of a partitioned table becomes valid when every partition has its part attached"
-- ///
--
-- What CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY leaves behind when it fails. No query uses it, every write
-- pays for it, and a unique one lets duplicates in that were there before. Tables on which an index is being built at
-- the moment are left out; that can be told on the primary only.
select
    format('%I.%I', n.nspname, i.relname) as index,
    format('%I.%I', tn.nspname, t.relname) as relation,
    x.indisunique as is_unique,
    x.indisvalid as is_valid,
    x.indisready as is_ready,
    x.indislive as is_live
from pg_catalog.pg_index x
join pg_catalog.pg_class i on i.oid = x.indexrelid
join pg_catalog.pg_namespace n on n.oid = i.relnamespace
join pg_catalog.pg_class t on t.oid = x.indrelid
join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
where not (x.indisvalid and x.indisready and x.indislive)
    and not exists (
        select
        from pg_catalog.pg_stat_progress_create_index p
        where p.datname = current_database()
            -- none is shown to roles without pg_read_all_stats: then it may be this one
            and coalesce(p.relid, x.indrelid) = x.indrelid
    )
order by index;
