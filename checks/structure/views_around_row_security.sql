-- /// db-race check
-- id       = "structure.views_around_row_security"
-- title    = "No view shows rows that row-level security hides"
-- severity = "warn"
-- key      = ["view", "relation"]
-- tags     = ["structure", "row-level security"]
-- remedy   = "ALTER VIEW ... SET (security_invoker = true) (PostgreSQL 15), or give the view to an owner for whom the policies hold"
-- ///
--
-- A view reads its tables with the rights of its owner. Where policies don't hold for the owner (a superuser,
-- BYPASSRLS, or the table's owner without FORCE), everybody who may read the view sees all rows. A materialized view
-- has them stored, whoever reads it. Views that only their owner may read are left out.
select distinct
    format('%I.%I', vn.nspname, v.relname) as view,
    format('%I.%I', tn.nspname, t.relname) as relation,
    o.rolname as owner,
    case v.relkind when 'm' then 'materialized view' else 'view' end as kind
from pg_catalog.pg_class v
join pg_catalog.pg_namespace vn on vn.oid = v.relnamespace
join pg_catalog.pg_roles o on o.oid = v.relowner
join pg_catalog.pg_rewrite r on r.ev_class = v.oid
join pg_catalog.pg_depend d
    on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
join pg_catalog.pg_class t on t.oid = d.refobjid and t.relrowsecurity
join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
where v.relkind in ('v', 'm')
    and not (
        v.relkind = 'v'
        and exists (
            select
            from pg_options_to_table(v.reloptions) as s
            where s.option_name = 'security_invoker' and lower(s.option_value) in ('true', 'on', 'yes', '1')
        )
    )
    and (
        o.rolsuper or o.rolbypassrls
        or pg_has_role(o.oid, t.relowner, 'usage') and not t.relforcerowsecurity
    )
    and exists (
        select
        from aclexplode(v.relacl) as a
        where a.privilege_type = 'SELECT' and a.grantee <> v.relowner
    )
order by view, relation;
