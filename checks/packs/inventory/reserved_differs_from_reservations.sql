-- /// db-race check
-- id       = "inventory.reserved_differs_from_reservations"
-- title    = "What is reserved is the sum of the open reservations"
-- severity = "error"
-- key      = ["item_id", "location_id"]
-- tags     = ["inventory", "counter"]
-- remedy   = "too high: a reservation ended and did not give back; too low: one was given back twice, or an update was lost"
--
-- [needs]
-- stock       = ["item_id", "location_id", "reserved"]
-- reservation = ["item_id", "location_id", "quantity", "is_open"]
-- ///
with promised as (
    select item_id, location_id, sum(quantity) as promised
    from reservation
    where is_open
    group by item_id, location_id
)
select
    item_id,
    location_id,
    stock.reserved,
    promised.promised,
    coalesce(stock.reserved, 0) - coalesce(promised.promised, 0) as difference
from stock
full join promised using (item_id, location_id)
where coalesce(stock.reserved, 0) is distinct from coalesce(promised.promised, 0)
order by item_id, location_id;
