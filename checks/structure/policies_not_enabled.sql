-- /// db-race check
-- id       = "structure.policies_not_enabled"
-- title    = "Tables that have policies have row-level security enabled"
-- severity = "error"
-- key      = ["relation"]
-- tags     = ["structure", "row-level security"]
-- remedy   = "ALTER TABLE ... ENABLE ROW LEVEL SECURITY, or drop the policies"
-- ///
--
-- A policy alone does nothing: everybody with the right to read the table sees all of its rows.
select
    format('%I.%I', n.nspname, c.relname) as relation,
    string_agg(quote_ident(p.polname), ', ' order by p.polname) as policies
from pg_catalog.pg_policy p
join pg_catalog.pg_class c on c.oid = p.polrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not c.relrowsecurity
group by n.nspname, c.relname
order by relation;
