-- /// db-race check
-- id       = "tpcc.c01_warehouse_ytd"
-- title    = "1: W_YTD is the sum of its districts' D_YTD"
-- severity = "error"
-- key      = ["w_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.1. A district without a warehouse, or a warehouse without districts, breaks it as well.
select w_id, w.w_ytd, d.d_ytd, d.d_ytd - w.w_ytd as difference
from (select w_id, w_ytd from warehouse) as w
full join (
    select d_w_id as w_id, sum(d_ytd) as d_ytd
    from district
    group by d_w_id
) as d using (w_id)
where w.w_ytd is distinct from d.d_ytd
order by w_id;
