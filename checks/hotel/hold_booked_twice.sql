-- /// db-race check
-- id       = "hotel.hold_booked_twice"
-- title    = "A hold becomes one booking at most"
-- severity = "error"
-- key      = ["hold_id"]
-- ///
select
    b.hold_id,
    h.guest,
    count(*) as confirmed_bookings,
    string_agg(b.booking_id::text, ', ' order by b.booking_id) as booking_ids
from bookings b
join booking_holds h on h.hold_id = b.hold_id
where b.status = 'confirmed'
group by b.hold_id, h.guest
having count(*) > 1
order by b.hold_id;
