-- /// db-race check
-- id       = "hotel.orphan_holds"
-- title    = "No hold is still active after its expiry"
-- severity = "warn"
-- key      = ["hold_id"]
-- ///
--
-- A warning: the sweeper may be a little late. Many rows, or old ones, say that it does not run.
select
    hold_id,
    room_type_id,
    nights,
    quantity,
    guest,
    hold_expiry,
    date_trunc('second', now() - hold_expiry) as overdue
from booking_holds
where status = 'active' and hold_expiry < now()
order by hold_id;
