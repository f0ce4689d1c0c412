-- /// db-race check
-- id       = "payments.key_with_two_requests"
-- title    = "An idempotency key stands for one request"
-- severity = "error"
-- key      = ["scope_id", "request_key"]
-- tags     = ["payments", "duplicate"]
-- remedy   = "make (scope, key) unique and not null, and refuse a key that comes with another request's hash"
--
-- [needs]
-- idempotency_key = ["scope_id", "request_key", "request_hash"]
-- ///
select
    scope_id,
    request_key,
    count(*) as times,
    count(distinct request_hash) as requests
from idempotency_key
group by scope_id, request_key
having count(*) > 1
order by scope_id, request_key;
