-- /// db-race check
-- id       = "tpcc.c11_initial_orders"
-- title    = "11: After loading, 2,100 orders of a district are no new ones"
-- severity = "error"
-- key      = ["w_id", "d_id"]
-- tags     = ["tpcc", "initial"]
-- requires = { predicate = "not exists (select from district where d_next_o_id <> 3001)" }
-- ///
--
-- Clause 3.3.2.11: count(ORDER) - count(NEW-ORDER) = 2100. True of the initial population only, since every delivery
-- turns a new order into one that isn't. So it is run only as long as no district has taken an order: each still has
-- 3001 for the next one (clause 4.3.3.1). Otherwise it is skipped.
select w_id, d_id, coalesce(o.orders, 0) as orders, coalesce(n.new_orders, 0) as new_orders
from (select d_w_id as w_id, d_id from district) as d
full join (
    select o_w_id as w_id, o_d_id as d_id, count(*) as orders
    from orders
    group by o_w_id, o_d_id
) as o using (w_id, d_id)
full join (
    select no_w_id as w_id, no_d_id as d_id, count(*) as new_orders
    from new_order
    group by no_w_id, no_d_id
) as n using (w_id, d_id)
where coalesce(o.orders, 0) - coalesce(n.new_orders, 0) <> 2100
order by w_id, d_id;
