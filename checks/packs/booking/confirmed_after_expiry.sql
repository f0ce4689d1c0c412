-- /// db-race check
-- id       = "booking.confirmed_after_expiry"
-- title    = "No booking was confirmed after its hold had run out"
-- severity = "error"
-- key      = ["booking_id"]
-- tags     = ["booking", "capacity"]
-- remedy   = "check the expiry in the statement that confirms (... where expires_at > now()), not in one before it"
--
-- [needs]
-- booking = ["booking_id", "hold_id", "is_confirmed", "confirmed_at"]
-- hold    = ["hold_id", "expires_at"]
-- ///
select booking_id, hold_id, hold.expires_at, booking.confirmed_at
from booking
join hold using (hold_id)
where booking.is_confirmed and booking.confirmed_at > hold.expires_at
order by booking_id;
