-- /// db-race check
-- id       = "tpcc.c02_next_order_id"
-- title    = "2: D_NEXT_O_ID - 1 is the largest O_ID, and the largest NO_O_ID"
-- severity = "error"
-- key      = ["w_id", "d_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.2. The second part is for districts that have new orders. Orders in a district that is not there break
-- it as well.
select w_id, d_id, d.d_next_o_id, o.o_id_max, n.no_o_id_max
from (select d_w_id as w_id, d_id, d_next_o_id from district) as d
full join (
    select o_w_id as w_id, o_d_id as d_id, max(o_id) as o_id_max
    from orders
    group by o_w_id, o_d_id
) as o using (w_id, d_id)
full join (
    select no_w_id as w_id, no_d_id as d_id, max(no_o_id) as no_o_id_max
    from new_order
    group by no_w_id, no_d_id
) as n using (w_id, d_id)
where d.d_next_o_id - 1 is distinct from coalesce(o.o_id_max, 0)
    or n.no_o_id_max <> coalesce(o.o_id_max, 0)
order by w_id, d_id;
