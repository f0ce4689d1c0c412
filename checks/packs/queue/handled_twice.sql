-- /// db-race check
-- id       = "queue.handled_twice"
-- title    = "A consumer handles a message once"
-- severity = "error"
-- key      = ["consumer_id", "message_id"]
-- tags     = ["queue", "duplicate"]
-- remedy   = "insert (consumer_id, message_id) under a unique constraint in the transaction that handles the message; both columns not null"
--
-- [needs]
-- inbox = ["handling_id", "consumer_id", "message_id"]
-- ///
select consumer_id, message_id, count(*) as times, array_agg(handling_id order by handling_id) as handling_ids
from inbox
where message_id is not null
group by consumer_id, message_id
having count(*) > 1
order by consumer_id, message_id;
