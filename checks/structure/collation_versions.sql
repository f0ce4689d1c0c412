-- /// db-race check
-- id       = "structure.collation_versions"
-- title    = "Indexes are in the order that the operating system's collations have today"
-- severity = "warn"
-- key      = ["collation_name"]
-- tags     = ["structure", "indexes"]
-- remedy   = "REINDEX what uses it, then ALTER COLLATION ... REFRESH VERSION (ALTER DATABASE ... REFRESH COLLATION VERSION); before that, structure/duplicates_under_unique_index"
-- ///
--
-- The order of text comes from libc or ICU, and changes with them. An index that was built in the old order does not
-- find what is there, and a unique one lets duplicates in. The database's own collation has a version from PostgreSQL
-- 15 on.
with versions as (
    select
        c.oid,
        format('%I.%I', n.nspname, c.collname) as collation_name,
        c.collversion as version,
        pg_collation_actual_version(c.oid) as version_today
    from pg_catalog.pg_collation c
    join pg_catalog.pg_namespace n on n.oid = c.collnamespace
    where c.collversion is not null
    union all
    select 'pg_catalog.default'::regcollation, 'pg_catalog.default', d.version, d.version_today
    from xmltable(
        '/table/row' passing query_to_xml(
            case
                when current_setting('server_version_num')::int >= 150000
                    then 'select datcollversion as version, pg_database_collation_actual_version(oid) as version_today
                          from pg_catalog.pg_database where datname = current_database()'
                else 'select where false'
            end,
            false, false, ''
        )
        columns version text, version_today text
    ) as d
)
select
    v.collation_name,
    v.version,
    v.version_today,
    count(*) as indexes,
    (array_agg(format('%I.%I', n.nspname, i.relname) order by n.nspname, i.relname))[1:10] as first_indexes
from versions v
join pg_catalog.pg_index x on v.oid = any (x.indcollation::oid[])
join pg_catalog.pg_class i on i.oid = x.indexrelid and i.relkind = 'i'
join pg_catalog.pg_namespace n on n.oid = i.relnamespace
where v.version <> v.version_today
group by v.collation_name, v.version, v.version_today
order by v.collation_name;
