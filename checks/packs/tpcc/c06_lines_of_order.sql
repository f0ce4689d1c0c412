-- /// db-race check
-- id       = "tpcc.c06_lines_of_order"
-- title    = "6: O_OL_CNT is the number of the order's lines"
-- severity = "error"
-- key      = ["w_id", "d_id", "o_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.6. An order that has lost all of its lines has nothing to compare its count with, and NULL <> 5 is not
-- true: the join is a full one, and the comparison knows NULL.
select w_id, d_id, o_id, o.o_ol_cnt, l.lines
from (select o_w_id as w_id, o_d_id as d_id, o_id, o_ol_cnt from orders) as o
full join (
    select ol_w_id as w_id, ol_d_id as d_id, ol_o_id as o_id, count(*) as lines
    from order_line
    group by ol_w_id, ol_d_id, ol_o_id
) as l using (w_id, d_id, o_id)
where o.o_ol_cnt is distinct from l.lines
order by w_id, d_id, o_id;
