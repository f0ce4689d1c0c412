-- /// db-race check
-- id       = "structure.published_without_identity"
-- title    = "Every table whose updates are published has a replica identity"
-- severity = "error"
-- key      = ["relation"]
-- tags     = ["structure", "replication"]
-- remedy   = "add a primary key, or ALTER TABLE ... REPLICA IDENTITY USING INDEX or FULL"
-- ///
--
-- Every UPDATE and DELETE on it fails: "cannot update table ... because it does not have a replica identity and
-- publishes updates".
with published as (
    select c.oid, bool_or(p.pubupdate) as updates, bool_or(p.pubdelete) as deletes
    from pg_catalog.pg_publication_tables t
    join pg_catalog.pg_publication p on p.pubname = t.pubname and (p.pubupdate or p.pubdelete)
    join pg_catalog.pg_namespace n on n.nspname = t.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    group by c.oid
),
-- rows are in the partitions, even where they are published as the parent's
tables as (
    select distinct coalesce(l.relid, p.oid) as oid, p.updates, p.deletes
    from published p
    left join lateral (select relid from pg_partition_tree(p.oid) where isleaf) as l on true
)
select
    format('%I.%I', n.nspname, c.relname) as relation,
    t.updates,
    t.deletes
from tables t
join pg_catalog.pg_class c on c.oid = t.oid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and case c.relreplident
        when 'f' then false
        when 'n' then true
        else not exists (
            select
            from pg_catalog.pg_index x
            where x.indrelid = c.oid and x.indisvalid and x.indimmediate
                and case c.relreplident when 'i' then x.indisreplident else x.indisprimary end
        )
    end
order by relation;
