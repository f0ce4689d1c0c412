-- /// db-race check
-- id       = "booking.hold_booked_twice"
-- title    = "A hold becomes one booking at the most"
-- severity = "error"
-- key      = ["hold_id"]
-- tags     = ["booking", "duplicate"]
-- remedy   = "forbid it in the table: create unique index on booking (hold_id) where is_active; a double click or a retry confirmed twice"
--
-- [needs]
-- booking = ["booking_id", "hold_id", "is_active"]
-- ///
select hold_id, count(*) as bookings, array_agg(booking_id order by booking_id) as booking_ids
from booking
where is_active and hold_id is not null
group by hold_id
having count(*) > 1
order by hold_id;
