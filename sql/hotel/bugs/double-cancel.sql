-- /// db-race bug
-- title    = "Cancelling twice gives the rooms back twice"
-- replaces = "cancel_booking"
-- scenario = "double-cancel"
-- breaks   = "hotel.booked_matches_details"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the booking's status is read without a lock. Two cancellations of one booking both see it confirmed,
-- and both subtract its rooms: another guest's room is for sale again.
--
-- Why teams write it: the DELETE and the UPDATE of the status can be repeated without harm, which makes the whole call
-- look safe to repeat. The counter is the part that is not.
--
-- What a load test usually shows: nothing, since a test cancels each booking once. The guest and the front desk, or one
-- client that retries after a timeout, do it at the same time.
--
-- No constraint has to go: other guests have rooms on the same nights, so the counter goes wrong without going below 0.

create or replace function cancel_booking(p_booking_id bigint)
returns void
language plpgsql as $$
declare
    v_booking bookings;
    v_hold    booking_holds;
begin
    -- The mistake: no FOR UPDATE, so the other cancellation is not waited for.
    select * into v_booking from bookings where booking_id = p_booking_id;
    if not found then
        raise exception 'no such booking: %', p_booking_id using errcode = 'HT004';
    end if;
    if v_booking.status <> 'confirmed' then
        raise exception 'booking % cannot be cancelled: it is %', p_booking_id, v_booking.status
            using errcode = 'HT006';
    end if;

    -- No lock: a hold that became a booking does not change any more.
    select * into v_hold from booking_holds where hold_id = v_booking.hold_id;

    perform 1
    from room_inventory
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights)
    order by date
    for update;

    update bookings set status = 'cancelled' where booking_id = p_booking_id;

    delete from booking_details where booking_id = p_booking_id;

    update room_inventory
    set booked_count = booked_count - v_hold.quantity
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights);
end
$$;
