-- /// db-race check
-- id       = "tpcc.c03_new_orders_dense"
-- title    = "3: A district's new orders are numbered without a gap"
-- severity = "error"
-- key      = ["w_id", "d_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.3: max(NO_O_ID) - min(NO_O_ID) + 1 is the number of rows.
select
    no_w_id as w_id,
    no_d_id as d_id,
    min(no_o_id) as no_o_id_min,
    max(no_o_id) as no_o_id_max,
    count(*) as new_orders
from new_order
group by no_w_id, no_d_id
having max(no_o_id) - min(no_o_id) + 1 <> count(*)
order by w_id, d_id;
