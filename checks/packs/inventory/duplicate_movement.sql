-- /// db-race check
-- id       = "inventory.duplicate_movement"
-- title    = "An order line has one movement of a kind at the most"
-- severity = "error"
-- key      = ["line_id", "kind"]
-- tags     = ["inventory", "duplicate"]
-- remedy   = "forbid it in the table: create unique index on movement (line_id, kind); a retry was booked twice"
--
-- [needs]
-- movement = ["movement_id", "line_id", "kind"]
-- ///
select line_id, kind, count(*) as movements, array_agg(movement_id order by movement_id) as movement_ids
from movement
where line_id is not null
group by line_id, kind
having count(*) > 1
order by line_id, kind;
