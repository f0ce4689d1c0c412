-- /// db-race check
-- id       = "queue.version_without_message"
-- title    = "An aggregate's version is that of its last message"
-- severity = "error"
-- key      = ["aggregate_id"]
-- tags     = ["queue", "lost"]
-- remedy   = "write the message in the transaction that changes the aggregate"
--
-- [needs]
-- aggregate = ["aggregate_id", "version"]
-- outbox    = ["aggregate_id", "version"]
-- ///
with latest as (
    select aggregate_id, max(version) as version
    from outbox
    group by aggregate_id
)
select aggregate_id, aggregate.version, latest.version as last_message
from aggregate
full join latest using (aggregate_id)
where coalesce(aggregate.version, 0) is distinct from coalesce(latest.version, 0)
order by aggregate_id;
