-- /// db-race check
-- id       = "booking.broken_history"
-- title    = "Each change of state begins where the one before it ended"
-- severity = "error"
-- key      = ["event_id"]
-- tags     = ["booking", "history"]
-- remedy   = "two changes were made from the same state: lock the booking, or change it by update ... where state = <the state it is changed from>"
--
-- [needs]
-- booking_event = ["event_id", "booking_id", "from_state", "to_state", "happened_at"]
-- ///
with step as (
    select
        event_id,
        booking_id,
        happened_at,
        lag(event_id) over history as event_before,
        lag(to_state) over history as state_before,
        from_state,
        to_state
    from booking_event
    window history as (partition by booking_id order by happened_at, event_id)
)
select event_id, booking_id, happened_at, event_before, state_before, from_state, to_state
from step
where event_before is not null and from_state is distinct from state_before
order by event_id;
