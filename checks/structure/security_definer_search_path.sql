-- /// db-race check
-- id       = "structure.security_definer_search_path"
-- title    = "Security definer functions have a search_path of their own"
-- severity = "warn"
-- key      = ["function"]
-- tags     = ["structure", "functions"]
-- remedy   = "ALTER FUNCTION ... SET search_path = pg_catalog, the_schema, pg_temp"
-- ///
--
-- It runs with its owner's rights, and looks names up in the caller's search_path: the caller puts a table or a
-- function of his own in front, and it is used with the owner's rights. Bodies in standard SQL (BEGIN ATOMIC) had
-- their names looked up when they were made.
select
    format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as function,
    pg_get_userbyid(p.proowner) as owner,
    l.lanname as language
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_language l on l.oid = p.prolang
where p.prosecdef
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_temp'
    and not exists (select from unnest(p.proconfig) as s (entry) where s.entry like 'search\_path=%')
    -- PostgreSQL 14
    and to_jsonb(p) ->> 'prosqlbody' is null
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    )
order by function;
