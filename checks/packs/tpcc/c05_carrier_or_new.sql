-- /// db-race check
-- id       = "tpcc.c05_carrier_or_new"
-- title    = "5: An order has no carrier exactly as long as it is a new one"
-- severity = "error"
-- key      = ["w_id", "d_id", "o_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.5: O_CARRIER_ID is null if and only if there is a row in NEW-ORDER. A new order without an order
-- breaks it as well.
select w_id, d_id, o_id, o.o_carrier_id, n.is_new is not null as is_new
from (select o_w_id as w_id, o_d_id as d_id, o_id, o_carrier_id, true as is_there from orders) as o
full join (
    select no_w_id as w_id, no_d_id as d_id, no_o_id as o_id, true as is_new from new_order
) as n using (w_id, d_id, o_id)
where o.is_there is null or (o.o_carrier_id is null) <> (n.is_new is not null)
order by w_id, d_id, o_id;
