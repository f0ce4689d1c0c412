-- /// db-race check
-- id       = "inventory.stock_differs_from_movements"
-- title    = "What is there is what was there first and all movements since"
-- severity = "error"
-- key      = ["item_id", "location_id"]
-- tags     = ["inventory", "counter"]
-- remedy   = "write the movement and the stock in one transaction, the stock by update ... set on_hand = on_hand + n: a value that was read before loses another one's update"
--
-- [needs]
-- stock    = ["item_id", "location_id", "on_hand", "opening"]
-- movement = ["item_id", "location_id", "quantity"]
-- ///
with moved as (
    select item_id, location_id, sum(quantity) as moved
    from movement
    group by item_id, location_id
)
select
    item_id,
    location_id,
    stock.on_hand,
    stock.opening,
    moved.moved,
    coalesce(stock.on_hand, 0) - coalesce(stock.opening, 0) - coalesce(moved.moved, 0) as difference
from stock
full join moved using (item_id, location_id)
where coalesce(stock.on_hand, 0) is distinct from coalesce(stock.opening, 0) + coalesce(moved.moved, 0)
order by item_id, location_id;
