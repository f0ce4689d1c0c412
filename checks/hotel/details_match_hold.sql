-- /// db-race check
-- id       = "hotel.details_match_hold"
-- title    = "A confirmed booking has as many rooms a night as its hold"
-- severity = "error"
-- key      = ["booking_id", "room_type_id", "date"]
-- ///
--
-- Night by night: a room too few on one night and one too many on another is not the stay that was held. The join is a
-- full one, because nights without rooms and rooms on nights that were never held are both wrong.
select
    booking_id,
    room_type_id,
    date,
    coalesce(h.quantity, 0) as rooms_held,
    coalesce(d.rooms, 0) as rooms_given_out
from (
    select b.booking_id, h.room_type_id, night as date, h.quantity
    from bookings b
    join booking_holds h on h.hold_id = b.hold_id
    cross join unnest(h.nights) as night
    where b.status = 'confirmed'
) as h
full join (
    select d.booking_id, d.room_type_id, d.date, count(*) as rooms
    from booking_details d
    join bookings b on b.booking_id = d.booking_id
    where b.status = 'confirmed'
    group by d.booking_id, d.room_type_id, d.date
) as d using (booking_id, room_type_id, date)
where h.quantity is distinct from d.rooms
order by booking_id, room_type_id, date;
