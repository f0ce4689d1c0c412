-- /// db-race check
-- id       = "booking.confirmed_without_item"
-- title    = "Every confirmed booking has an item"
-- severity = "error"
-- key      = ["booking_id"]
-- tags     = ["booking", "integrity"]
-- remedy   = "confirm a booking and write its items in one transaction"
--
-- [needs]
-- booking      = ["booking_id", "is_confirmed"]
-- booking_item = ["booking_id", "is_active"]
-- ///
select booking_id
from booking
where
    is_confirmed
    and not exists (
        select
        from booking_item
        where booking_item.booking_id = booking.booking_id and booking_item.is_active
    )
order by booking_id;
