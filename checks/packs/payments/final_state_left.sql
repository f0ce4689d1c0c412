-- /// db-race check
-- id       = "payments.final_state_left"
-- title    = "No payment leaves a final state"
-- severity = "error"
-- key      = ["event_id"]
-- tags     = ["payments", "history"]
-- remedy   = "change the state by update ... where state = <the state it is changed from>: a late webhook must find no row"
--
-- [needs]
-- payment_event = ["event_id", "payment_id", "from_state", "to_state", "from_is_final"]
-- ///
select event_id, payment_id, from_state, to_state
from payment_event
where from_is_final and to_state is distinct from from_state
order by event_id;
