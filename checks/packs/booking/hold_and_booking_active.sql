-- /// db-race check
-- id       = "booking.hold_and_booking_active"
-- title    = "A hold ends when its booking takes over"
-- severity = "error"
-- key      = ["hold_id"]
-- tags     = ["booking", "capacity"]
-- remedy   = "end the hold in the transaction that makes the booking: both take up the resource now"
--
-- [needs]
-- booking = ["booking_id", "hold_id", "is_active"]
-- hold    = ["hold_id", "is_active"]
-- ///
select hold_id, array_agg(booking_id order by booking_id) as booking_ids
from hold
join booking using (hold_id)
where hold.is_active and booking.is_active
group by hold_id
order by hold_id;
