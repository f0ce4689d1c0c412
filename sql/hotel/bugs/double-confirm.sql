-- /// db-race bug
-- title    = "A double click confirms a hold twice"
-- replaces = "confirm_booking"
-- scenario = "double-click"
-- breaks   = "hotel.hold_booked_twice"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the hold's status is read without a lock. Both clicks see an active hold, both make a booking of it,
-- and the second one takes its rooms from somebody else's hold.
--
-- Why teams write it: the status check looks like it makes the call idempotent, and one after another it does. The lock
-- on the inventory that follows comes too late, since the hold is not read again behind it.
--
-- What a load test usually shows: nothing, because every virtual user confirms a hold of its own. A person's double
-- click, or a proxy that retries, sends the same one twice.
--
-- The unique constraint on bookings (hold_id) would turn the second booking into an error, so it is dropped here.

alter table bookings drop constraint if exists bookings_hold_id_key;

create or replace function confirm_booking(p_hold_id bigint)
returns bigint
language plpgsql as $$
declare
    v_hold       booking_holds;
    v_now        timestamptz;
    v_booking_id bigint;
    v_rooms      int;
begin
    -- The mistake: no FOR UPDATE, so the other click is not waited for.
    select * into v_hold from booking_holds where hold_id = p_hold_id;
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

    -- The lowest free numbers of each night. Whoever gives out or frees a number of a night has locked its inventory
    -- row, so what this statement sees is still true when it inserts.
    insert into booking_details (booking_id, room_type_id, date, room_number)
    select v_booking_id, i.room_type_id, i.date, free.room_number
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

    -- Fewer numbers than promised rooms: the allotment was cut after the hold was made.
    get diagnostics v_rooms = row_count;
    if v_rooms <> v_hold.quantity * cardinality(v_hold.nights) then
        raise exception 'no rooms left: hold % needs % room nights, % can be given',
            p_hold_id, v_hold.quantity * cardinality(v_hold.nights), v_rooms
            using errcode = 'HT001';
    end if;

    return v_booking_id;
end
$$;
