-- /// db-race check
-- id       = "queue.version_gap"
-- title    = "Versions of an aggregate's messages follow one another without a gap or a repetition"
-- severity = "error"
-- key      = ["message_id"]
-- tags     = ["queue", "lost"]
-- remedy   = "make (aggregate_id, version) unique, so that the second of two writers fails; a gap is a message that was lost or deleted"
--
-- [needs]
-- outbox = ["message_id", "aggregate_id", "version"]
-- ///
--
-- The first message that is still there may have any version: what is before it may have been cleaned up.
with message as (
    select
        message_id,
        aggregate_id,
        version,
        lag(version) over (partition by aggregate_id order by version, message_id) as version_before
    from outbox
)
select message_id, aggregate_id, version, version_before
from message
where version <> version_before + 1
order by message_id;
