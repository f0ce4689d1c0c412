-- The hotel's procedures. They are meant to be right under any concurrency, at READ COMMITTED and above.
--
-- Locks are taken in one order everywhere, so that no two calls can wait for each other:
--   1. the hold or the booking the call is about (the sweeper skips holds that somebody else has),
--   2. its inventory rows, by (room_type_id, date).
-- Decisions are made on rows read under these locks, never on an earlier read. Counters change relatively.
--
-- Refusals have SQLSTATEs of their own:
--   HT001  no rooms left           HT003  hold expired               HT005  bad request
--   HT002  hold not active         HT004  no such hold or booking    HT006  booking not cancellable

create or replace function create_booking_hold(
    p_room_type_id  int,
    p_nights        date[],
    p_quantity      int,
    p_guest         bigint,
    p_ttl           interval default '10 minutes',
    out hold_id     bigint,
    out hold_expiry timestamptz
)
language plpgsql as $$
declare
    v_nights date[];
    v_night  record;
    v_found  int := 0;
begin
    -- array_ndims is null for an array that is null or empty
    if array_ndims(p_nights) is distinct from 1 or array_position(p_nights, null) is not null then
        raise exception 'bad request: nights must be a list of at least one date' using errcode = 'HT005';
    end if;
    if p_quantity is null or p_quantity <= 0 then
        raise exception 'bad request: quantity must be at least 1, got %', p_quantity using errcode = 'HT005';
    end if;
    if p_ttl is null or p_ttl <= interval '0' then
        raise exception 'bad request: a hold must last for some time, got %', p_ttl using errcode = 'HT005';
    end if;

    v_nights := array(select distinct n from unnest(p_nights) as n order by n);
    if cardinality(v_nights) <> cardinality(p_nights) then
        raise exception 'bad request: a night is given twice' using errcode = 'HT005';
    end if;

    -- By date, whatever order the caller gave: two overlapping stays must not lock against each other.
    for v_night in
        select i.date, i.allotment - i.booked_count - i.tentative_count as free
        from room_inventory i
        where i.room_type_id = p_room_type_id and i.date = any (v_nights)
        order by i.date
        for update
    loop
        v_found := v_found + 1;
        if v_night.free < p_quantity then
            raise exception 'no rooms left: % on % has % free, % wanted',
                (select t.name from room_types t where t.room_type_id = p_room_type_id),
                v_night.date, greatest(v_night.free, 0), p_quantity
                using errcode = 'HT001';
        end if;
    end loop;

    if v_found <> cardinality(v_nights) then
        raise exception 'bad request: room type % is not on sale on all of %', p_room_type_id, v_nights
            using errcode = 'HT005';
    end if;

    update room_inventory i
    set tentative_count = i.tentative_count + p_quantity
    where i.room_type_id = p_room_type_id and i.date = any (v_nights);

    -- The guest's minutes start now, not when the call began to wait for its locks.
    insert into booking_holds (room_type_id, nights, quantity, guest, hold_expiry)
    values (p_room_type_id, v_nights, p_quantity, p_guest, clock_timestamp() + p_ttl)
    returning booking_holds.hold_id, booking_holds.hold_expiry into hold_id, hold_expiry;
end
$$;

create or replace function confirm_booking(p_hold_id bigint)
returns bigint
language plpgsql as $$
declare
    v_hold       booking_holds;
    v_now        timestamptz;
    v_booking_id bigint;
    v_rooms      int;
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

-- The guest gives the rooms back. An expired hold that the sweeper has not met yet may be given back as well.
create or replace function release_hold(p_hold_id bigint)
returns void
language plpgsql as $$
declare
    v_hold booking_holds;
begin
    select * into v_hold from booking_holds where hold_id = p_hold_id for update;
    if not found then
        raise exception 'no such hold: %', p_hold_id using errcode = 'HT004';
    end if;
    if v_hold.status <> 'active' then
        raise exception 'hold % is not active: it is %', p_hold_id, v_hold.status using errcode = 'HT002';
    end if;

    update booking_holds set status = 'released' where hold_id = p_hold_id;

    perform 1
    from room_inventory
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights)
    order by date
    for update;

    update room_inventory
    set tentative_count = tentative_count - v_hold.quantity
    where room_type_id = v_hold.room_type_id and date = any (v_hold.nights);
end
$$;

-- The sweeper: takes back every hold that ran out, and says how many. Several may run at once.
create or replace function expire_holds()
returns int
language plpgsql as $$
declare
    v_holds bigint[];
begin
    -- A hold that somebody has locked is being confirmed or released: that call decides, and if it gives up, the next
    -- sweep comes by. now() is good enough here, since a sweep may be late but never early.
    select array_agg(h.hold_id) into v_holds
    from (
        select hold_id
        from booking_holds
        where status = 'active' and hold_expiry <= now()
        order by hold_id
        for update skip locked
    ) as h;

    if v_holds is null then
        return 0;
    end if;

    -- One pass over the nights of all holds, not one a hold: that would take a later hold's early night
    -- after an earlier hold's late one.
    perform 1
    from room_inventory i
    where exists (
        select from booking_holds h
        where h.hold_id = any (v_holds) and h.room_type_id = i.room_type_id and i.date = any (h.nights)
    )
    order by i.room_type_id, i.date
    for update;

    update booking_holds set status = 'expired' where hold_id = any (v_holds);

    -- Summed by night first: UPDATE ... FROM applies only one of several matching rows.
    update room_inventory i
    set tentative_count = i.tentative_count - g.rooms
    from (
        select h.room_type_id, night, sum(h.quantity) as rooms
        from booking_holds h
        cross join unnest(h.nights) as night
        where h.hold_id = any (v_holds)
        group by h.room_type_id, night
    ) as g
    where i.room_type_id = g.room_type_id and i.date = g.night;

    return cardinality(v_holds);
end
$$;

create or replace function cancel_booking(p_booking_id bigint)
returns void
language plpgsql as $$
declare
    v_booking bookings;
    v_hold    booking_holds;
begin
    select * into v_booking from bookings where booking_id = p_booking_id for update;
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
