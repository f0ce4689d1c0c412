-- /// db-race check
-- id       = "tpcc.c04_lines_of_district"
-- title    = "4: The sum of a district's O_OL_CNT is the number of its order lines"
-- severity = "error"
-- key      = ["w_id", "d_id"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.4.
select w_id, d_id, o.o_ol_cnt, l.lines
from (
    select o_w_id as w_id, o_d_id as d_id, sum(o_ol_cnt) as o_ol_cnt
    from orders
    group by o_w_id, o_d_id
) as o
full join (
    select ol_w_id as w_id, ol_d_id as d_id, count(*) as lines
    from order_line
    group by ol_w_id, ol_d_id
) as l using (w_id, d_id)
where o.o_ol_cnt is distinct from l.lines
order by w_id, d_id;
