-- /// db-race check
-- id       = "hotel.hold_confirmed_unbooked"
-- title    = "Every confirmed hold has a booking"
-- severity = "error"
-- key      = ["hold_id"]
-- ///
--
-- A booking that was cancelled later counts as well: the hold was confirmed, and stays so.
select
    h.hold_id,
    h.room_type_id,
    h.nights,
    h.quantity,
    h.guest,
    h.status as hold_status
from booking_holds h
where
    h.status = 'confirmed'
    and not exists (select from bookings b where b.hold_id = h.hold_id)
order by h.hold_id;
