-- /// db-race check
-- id       = "tpcc.c08_warehouse_history"
-- title    = "8: W_YTD is the sum of the warehouse's payments"
-- severity = "error"
-- key      = ["w_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.8: sum(H_AMOUNT).
select w_id, w.w_ytd, h.h_amount, h.h_amount - w.w_ytd as difference
from (select w_id, w_ytd from warehouse) as w
full join (
    select h_w_id as w_id, sum(h_amount) as h_amount
    from history
    group by h_w_id
) as h using (w_id)
where w.w_ytd is distinct from coalesce(h.h_amount, 0)
order by w_id;
