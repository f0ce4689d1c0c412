-- /// db-race check
-- id       = "booking.illegal_transition"
-- title    = "Every change of a booking's state is an allowed one"
-- severity = "error"
-- key      = ["event_id"]
-- tags     = ["booking", "history"]
-- remedy   = "change the state by update ... where state = <the state it is changed from>, and look at the number of rows"
--
-- [needs]
-- booking_event = ["event_id", "booking_id", "from_state", "to_state", "happened_at"]
-- transition    = ["from_state", "to_state"]
-- ///
select event_id, booking_id, from_state, to_state, happened_at
from booking_event as event
where
    from_state is not null
    and not exists (
        select
        from transition
        where
            transition.from_state::text = event.from_state::text
            and transition.to_state::text = event.to_state::text
    )
order by event_id;
