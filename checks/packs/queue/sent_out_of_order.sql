-- /// db-race check
-- id       = "queue.sent_out_of_order"
-- title    = "Messages of an aggregate are sent in the order of their versions"
-- severity = "error"
-- key      = ["message_id"]
-- tags     = ["queue", "order"]
-- remedy   = "skip locked gives one aggregate's messages to several senders: lock by aggregate, or send each aggregate from one"
--
-- [needs]
-- outbox = ["message_id", "aggregate_id", "version", "sent_at"]
-- ///
--
-- A finding was sent though an earlier one had not been: it is unsent still, or was sent later.
with message as (
    select
        message_id,
        aggregate_id,
        version,
        sent_at,
        max(coalesce(sent_at, 'infinity')) over (
            partition by aggregate_id
            order by version, message_id
            rows between unbounded preceding and 1 preceding
        ) as all_before_sent_at
    from outbox
)
select message_id, aggregate_id, version, sent_at, all_before_sent_at
from message
where sent_at < all_before_sent_at
order by message_id;
