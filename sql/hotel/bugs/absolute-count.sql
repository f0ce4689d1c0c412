-- /// db-race bug
-- title    = "Counters are written back as absolute values"
-- replaces = "confirm_booking"
-- scenario = "race-condition"
-- breaks   = "hotel.booked_matches_details"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the inventory row is read without a lock, changed in variables, and written back whole. Of several
-- confirmations of one night only the last one is counted (a lost update), and the rooms of the others are for sale
-- again while their guests have a booking.
--
-- Why teams write it: it is what an object-relational mapper does (load, change, save all columns), carried over into
-- the procedure.
--
-- What a load test usually shows: no error, and every guest is told the truth about his own booking. Only the counters
-- drift, which nobody looks at until the night is overbooked.

create or replace function confirm_booking(p_hold_id bigint)
returns bigint
language plpgsql as $$
declare
    v_hold       booking_holds;
    v_now        timestamptz;
    v_night      room_inventory;
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

    -- The mistake: no lock, and a copy that may be stale decides what the counters become.
    for v_night in
        select *
        from room_inventory
        where room_type_id = v_hold.room_type_id and date = any (v_hold.nights)
        order by date
    loop
        update room_inventory
        set tentative_count = v_night.tentative_count - v_hold.quantity,
            booked_count    = v_night.booked_count + v_hold.quantity
        where room_type_id = v_night.room_type_id and date = v_night.date;
    end loop;

    update booking_holds set status = 'confirmed' where hold_id = p_hold_id;

    insert into bookings (hold_id, guest, created_at)
    values (p_hold_id, v_hold.guest, v_now)
    returning booking_id into v_booking_id;

    -- The lowest free numbers of each night. This part is right: the UPDATEs above hold the inventory rows.
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
