-- /// db-race check
-- id       = "tpcc.c07_delivered_lines"
-- title    = "7: A line is delivered exactly when its order has a carrier"
-- severity = "error"
-- key      = ["w_id", "d_id", "o_id", "ol_number"]
-- tags     = ["tpcc"]
-- ///
--
-- Clause 3.3.2.7: OL_DELIVERY_D is null if and only if O_CARRIER_ID is. Of a line without an order the carrier is
-- unknown: clause 6 finds it.
select
    l.ol_w_id as w_id,
    l.ol_d_id as d_id,
    l.ol_o_id as o_id,
    l.ol_number,
    l.ol_delivery_d,
    o.o_carrier_id
from order_line l
join orders o on (o.o_w_id, o.o_d_id, o.o_id) = (l.ol_w_id, l.ol_d_id, l.ol_o_id)
where (l.ol_delivery_d is null) <> (o.o_carrier_id is null)
order by w_id, d_id, o_id, ol_number;
