-- /// db-race bug
-- title    = "Availability is read without a lock"
-- replaces = "create_booking_hold"
-- scenario = "last-room"
-- breaks   = "hold.accepted"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the free rooms are read with a plain SELECT. Two guests can both see the last room, and both UPDATEs
-- are right for what their own call has seen. Adding relatively keeps the counter honest about the overbooking; it
-- does not prevent it.
--
-- Why teams write it: "check, then act" is how the rule is spoken, one transaction looks like enough protection, and
-- a row lock for a mere read looks like a brake.
--
-- What a load test usually shows: nothing, or one guest too many now and then. Two calls must be between the SELECT
-- and the UPDATE at once, which takes microseconds.

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

    -- The mistake: no FOR UPDATE. What is free now may be gone when we write.
    for v_night in
        select i.date, i.allotment - i.booked_count - i.tentative_count as free
        from room_inventory i
        where i.room_type_id = p_room_type_id and i.date = any (v_nights)
        order by i.date
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
