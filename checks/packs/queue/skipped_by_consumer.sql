-- /// db-race check
-- id       = "queue.skipped_by_consumer"
-- title    = "No consumer has read past a message that was not sent"
-- severity = "error"
-- key      = ["consumer_id", "message_id"]
-- tags     = ["queue", "lost"]
-- remedy   = "a sequence gives out positions before commit: read only what is older than pg_snapshot_xmin(pg_current_snapshot()), or take rows by status with skip locked"
--
-- [needs]
-- outbox   = ["message_id", "position", "is_sent"]
-- consumer = ["consumer_id", "position"]
-- ///
select consumer_id, message_id, outbox.position, consumer.position as read_until
from outbox
join consumer on outbox.position <= consumer.position
where not coalesce(outbox.is_sent, false)
order by consumer_id, message_id;
