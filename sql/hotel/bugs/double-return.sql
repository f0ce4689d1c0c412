-- /// db-race bug
-- title    = "Sweeper and guest both give the rooms back"
-- replaces = "release_hold"
-- scenario = "expiry-and-release"
-- breaks   = "hotel.tentative_matches_holds"
-- kind     = "concurrency"
-- ///
--
-- What is wrong: the hold's status is read without a lock, and the UPDATE that follows does not ask for it again. While
-- the sweeper takes an expired hold back, its guest releases it: the rooms are subtracted twice, and other guests'
-- rooms are for sale again.
--
-- Why teams write it: the sweeper is careful (FOR UPDATE SKIP LOCKED), and that looks like enough for both. A lock
-- protects only from those who take it too.
--
-- What a load test usually shows: nothing. The sweeper runs once a minute, and a test seldom releases a hold in the
-- same millisecond.
--
-- No constraint has to go: other guests hold rooms on the same nights, so the counter goes wrong without going below 0.

create or replace function release_hold(p_hold_id bigint)
returns void
language plpgsql as $$
declare
    v_hold booking_holds;
begin
    -- The mistake: no FOR UPDATE. The sweeper may have the hold already.
    select * into v_hold from booking_holds where hold_id = p_hold_id;
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
