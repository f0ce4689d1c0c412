-- /// db-race check
-- id       = "inventory.negative_after_movement"
-- title    = "No movement took out more than was there"
-- severity = "error"
-- key      = ["movement_id"]
-- tags     = ["inventory", "history"]
-- remedy   = "lock the stock's row before the movement is written; that it came right later doesn't mean that there was something to take"
--
-- [needs]
-- stock    = ["item_id", "location_id", "opening"]
-- movement = ["movement_id", "item_id", "location_id", "quantity", "moved_at"]
-- ///
with chain as (
    select
        movement_id,
        item_id,
        location_id,
        moved_at,
        quantity,
        sum(quantity) over (
            partition by item_id, location_id
            order by moved_at, movement_id
            rows unbounded preceding
        ) as moved
    from movement
)
select movement_id, item_id, location_id, moved_at, quantity, coalesce(stock.opening, 0) + moved as left_over
from chain
left join stock using (item_id, location_id)
where quantity < 0 and coalesce(stock.opening, 0) + moved < 0
order by movement_id;
