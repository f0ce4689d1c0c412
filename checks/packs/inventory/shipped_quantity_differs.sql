-- /// db-race check
-- id       = "inventory.shipped_quantity_differs"
-- title    = "As much has left the stock as was shipped"
-- severity = "error"
-- key      = ["line_id"]
-- tags     = ["inventory", "counter"]
-- remedy   = "more: the line was shipped twice; make (line_id, kind) of movements unique. Less: part of it was marked as shipped and is still here"
--
-- [needs]
-- order_line = ["line_id", "quantity", "is_shipped"]
-- movement   = ["line_id", "quantity"]
-- ///
--
-- Of lines that have movements at all; see shipped_without_movement for the others.
with moved as (
    select line_id, -sum(quantity) as moved
    from movement
    where line_id is not null
    group by line_id
)
select line_id, order_line.quantity as ordered, moved.moved
from order_line
join moved using (line_id)
where order_line.is_shipped and moved.moved is distinct from order_line.quantity
order by line_id;
