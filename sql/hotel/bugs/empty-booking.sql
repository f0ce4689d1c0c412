-- /// db-race bug
-- title    = "A swallowed error leaves a booking without rooms"
-- replaces = "confirm_booking"
-- scenario = "race-condition"
-- breaks   = "hotel.confirmed_without_details"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the room numbers are picked before anything is locked, the booking is written before its details, and
-- the clash of two guests who picked the same number is caught and dropped. The second guest has a confirmed booking
-- of no room.
--
-- Why teams write it: after a retry the details were there already, once, and the handler made the error go away. It
-- hides every other cause as well.
--
-- What a load test usually shows: nothing. Each call succeeds, no error is logged, the counters add up. The
-- receptionist finds out.

create or replace function confirm_booking(p_hold_id bigint)
returns bigint
language plpgsql as $$
declare
    v_hold       booking_holds;
    v_now        timestamptz;
    v_dates      date[];
    v_numbers    int[];
    v_booking_id bigint;
begin
    select * into v_hold from booking_holds where hold_id = p_hold_id for update;
    if not found then
        raise exception 'no such hold: %', p_hold_id using errcode = 'HT004';
    end if;
    if v_hold.status <> 'active' then
        raise exception 'hold % is not active: it is %', p_hold_id, v_hold.status using errcode = 'HT002';
    end if;

    -- Not now(): that is when the transaction began, and a hold may expire while we wait for its lock.
    v_now := clock_timestamp();
    if v_hold.hold_expiry <= v_now then
        raise exception 'hold % expired at %', p_hold_id, v_hold.hold_expiry using errcode = 'HT003';
    end if;

    -- The mistake, first half: these numbers are free only until somebody else takes them.
    select array_agg(i.date), array_agg(free.room_number) into v_dates, v_numbers
    from room_inventory i
    cross join lateral (
        select n as room_number
        from generate_series(1, i.allotment) as n
        where not exists (
            select from booking_details d
            where d.room_type_id = i.room_type_id and d.date = i.date and d.room_number = n
        )
        order by n
        limit v_hold.quantity
    ) as free
    where i.room_type_id = v_hold.room_type_id and i.date = any (v_hold.nights);

    if coalesce(cardinality(v_numbers), 0) <> v_hold.quantity * cardinality(v_hold.nights) then
        raise exception 'no rooms left: hold % needs % room nights, % can be given',
            p_hold_id, v_hold.quantity * cardinality(v_hold.nights), coalesce(cardinality(v_numbers), 0)
            using errcode = 'HT001';
    end if;

    perform 1
    from room_inventory
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights)
    order by date
    for update;

    update room_inventory
    set tentative_count = tentative_count - v_hold.quantity,
        booked_count    = booked_count + v_hold.quantity
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights);

    update booking_holds set status = 'confirmed' where hold_id = p_hold_id;

    insert into bookings (hold_id, guest, created_at)
    values (p_hold_id, v_hold.guest, v_now)
    returning booking_id into v_booking_id;

    begin
        insert into booking_details (booking_id, room_type_id, date, room_number)
        select v_booking_id, v_hold.room_type_id, picked.date, picked.room_number
        from unnest(v_dates, v_numbers) as picked (date, room_number);
    exception when unique_violation then
        null; -- The mistake, second half: "already written by a retry".
    end;

    return v_booking_id;
end
$$;
