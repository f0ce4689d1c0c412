-- /// db-race bug
-- title    = "Nights are locked in the caller's order"
-- replaces = "create_booking_hold"
-- scenario = "last-room-nights"
-- breaks   = "deadlocks"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the nights are locked and counted one by one, in the order of the array. A guest who asks for Monday
-- to Sunday and one who asks for Sunday to Monday each lock their first night and then wait for the other's: a
-- deadlock, of which PostgreSQL shoots one after deadlock_timeout.
--
-- Why teams write it: a loop over the argument is the obvious code, it is correct for every single night, and the
-- test data always comes sorted.
--
-- What a load test usually shows: nothing, since its clients send their nights in ascending order. In production a cart
-- that was filled in any order brings a few "deadlock detected" a day, which retries hide.

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
    v_date   date;
    v_night  record;
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

    -- The mistake: one night after the other, in the order of p_nights.
    foreach v_date in array p_nights
    loop
        select i.date, i.allotment - i.booked_count - i.tentative_count as free into v_night
        from room_inventory i
        where i.room_type_id = p_room_type_id and i.date = v_date
        for update;
        if not found then
            raise exception 'bad request: room type % is not on sale on %', p_room_type_id, v_date
                using errcode = 'HT005';
        end if;
        if v_night.free < p_quantity then
            raise exception 'no rooms left: % on % has % free, % wanted',
                (select t.name from room_types t where t.room_type_id = p_room_type_id),
                v_night.date, greatest(v_night.free, 0), p_quantity
                using errcode = 'HT001';
        end if;

        update room_inventory i
        set tentative_count = i.tentative_count + p_quantity
        where i.room_type_id = p_room_type_id and i.date = v_date;
    end loop;

    -- The guest's minutes start now, not when the call began to wait for its locks.
    insert into booking_holds (room_type_id, nights, quantity, guest, hold_expiry)
    values (p_room_type_id, v_nights, p_quantity, p_guest, clock_timestamp() + p_ttl)
    returning booking_holds.hold_id, booking_holds.hold_expiry into hold_id, hold_expiry;
end
$$;
