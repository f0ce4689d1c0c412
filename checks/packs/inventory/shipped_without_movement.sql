-- /// db-race check
-- id       = "inventory.shipped_without_movement"
-- title    = "What was shipped has left the stock"
-- severity = "error"
-- key      = ["line_id"]
-- tags     = ["inventory", "integrity"]
-- remedy   = "mark a line as shipped in the transaction that writes its movement"
--
-- [needs]
-- order_line = ["line_id", "is_shipped"]
-- movement   = ["line_id", "quantity"]
-- ///
select line_id
from order_line
where
    is_shipped
    and not exists (
        select
        from movement
        where movement.line_id = order_line.line_id and movement.quantity < 0
    )
order by line_id;
