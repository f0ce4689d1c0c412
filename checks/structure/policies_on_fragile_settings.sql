-- /// db-race check
-- id       = "structure.policies_on_fragile_settings"
-- title    = "Policies read settings that may be unset, or empty, in the one safe way"
-- severity = "warn"
-- key      = ["relation", "policy"]
-- tags     = ["structure", "row-level security", "tenants"]
-- remedy   = "write nullif(current_setting('app.tenant', true), '')"
-- ///
--
-- current_setting('app.tenant') fails where nobody has set it. With `true` behind, it is NULL in a new session, but
-- '' in every session that had it set before (SET LOCAL, DISCARD ALL), so what a policy does depends on who had the
-- pool's connection before: an error (''::uuid), or the rows of a tenant called ''.
select
    format('%I.%I', n.nspname, c.relname) as relation,
    p.polname as policy,
    e.expression
from pg_catalog.pg_policy p
join pg_catalog.pg_class c on c.oid = p.polrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (
    select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
) as e (expression)
where
    -- of all that is read in the safe way nothing is left
    regexp_replace(
        e.expression, 'NULLIF\(current_setting\(''[^'']*''::text, true\), ''''::text\)', '', 'g'
    ) ~ '\mcurrent_setting\('
order by relation, policy;
