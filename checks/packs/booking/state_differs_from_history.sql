-- /// db-race check
-- id       = "booking.state_differs_from_history"
-- title    = "A booking's state is that of its last change"
-- severity = "error"
-- key      = ["booking_id"]
-- tags     = ["booking", "history"]
-- remedy   = "write the state and its change in one transaction; a state that was overwritten is a lost update"
--
-- [needs]
-- booking       = ["booking_id", "state"]
-- booking_event = ["event_id", "booking_id", "to_state", "happened_at"]
-- ///
with latest as (
    select distinct on (booking_id) booking_id, event_id, to_state
    from booking_event
    order by booking_id, happened_at desc, event_id desc
)
select booking_id, booking.state, latest.to_state as state_in_history, latest.event_id
from booking
join latest using (booking_id)
where booking.state::text is distinct from latest.to_state::text
order by booking_id;
