-- /// db-race check
-- id       = "inventory.expired_reservation"
-- title    = "No reservation without a live order is still open after its expiry"
-- severity = "warn"
-- key      = ["reservation_id"]
-- tags     = ["inventory", "stuck"]
-- params   = { sweep_within = "1 minute" }
-- remedy   = "see whether the job that takes expired reservations back is running; until it has, nobody can buy what they hold"
--
-- [needs]
-- reservation = ["reservation_id", "is_open", "order_id", "expires_at"]
-- sales_order = ["order_id", "is_live"]
-- ///
--
-- `sweep_within`: how late the job that takes reservations back may be.
select reservation_id, order_id, expires_at, now() - expires_at as overdue
from reservation
where
    is_open
    and expires_at < now() - current_setting('race.sweep_within')::interval
    and not exists (
        select
        from sales_order
        where sales_order.order_id = reservation.order_id and sales_order.is_live
    )
order by reservation_id;
