-- /// db-race check
-- id       = "payments.webhook_handled_twice"
-- title    = "A provider's event is handled once"
-- severity = "error"
-- key      = ["provider_id", "provider_event_id"]
-- tags     = ["payments", "duplicate"]
-- remedy   = "insert the event's id under a unique constraint in the transaction that handles it; providers send events more than once"
--
-- [needs]
-- webhook = ["handling_id", "provider_id", "provider_event_id"]
-- ///
select
    provider_id,
    provider_event_id,
    count(*) as times,
    array_agg(handling_id order by handling_id) as handling_ids
from webhook
where provider_event_id is not null
group by provider_id, provider_event_id
having count(*) > 1
order by provider_id, provider_event_id;
