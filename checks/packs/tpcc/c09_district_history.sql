-- /// db-race check
-- id       = "tpcc.c09_district_history"
-- title    = "9: D_YTD is the sum of the district's payments"
-- severity = "error"
-- key      = ["w_id", "d_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.9: sum(H_AMOUNT).
select w_id, d_id, d.d_ytd, h.h_amount, h.h_amount - d.d_ytd as difference
from (select d_w_id as w_id, d_id, d_ytd from district) as d
full join (
    select h_w_id as w_id, h_d_id as d_id, sum(h_amount) as h_amount
    from history
    group by h_w_id, h_d_id
) as h using (w_id, d_id)
where d.d_ytd is distinct from coalesce(h.h_amount, 0)
order by w_id, d_id;
