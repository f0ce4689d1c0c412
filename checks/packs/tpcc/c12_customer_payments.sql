-- /// db-race check
-- id       = "tpcc.c12_customer_payments"
-- title    = "12: C_BALANCE + C_YTD_PAYMENT is what was delivered"
-- severity = "error"
-- key      = ["w_id", "d_id", "c_id"]
-- tags     = ["tpcc", "slow"]
-- timeout  = "10m"
-- ///
--
-- Clause 3.3.2.12: sum(OL_AMOUNT) of delivered lines. What was delivered to a customer who is not there breaks it as
-- well.
select
    w_id,
    d_id,
    c_id,
    c.c_balance,
    c.c_ytd_payment,
    coalesce(d.delivered, 0) as delivered
from (select c_w_id as w_id, c_d_id as d_id, c_id, c_balance, c_ytd_payment from customer) as c
full join (
    select o.o_w_id as w_id, o.o_d_id as d_id, o.o_c_id as c_id, sum(l.ol_amount) as delivered
    from orders o
    join order_line l on (l.ol_w_id, l.ol_d_id, l.ol_o_id) = (o.o_w_id, o.o_d_id, o.o_id)
    where l.ol_delivery_d is not null
    group by o.o_w_id, o.o_d_id, o.o_c_id
) as d using (w_id, d_id, c_id)
where c.c_balance + c.c_ytd_payment is distinct from coalesce(d.delivered, 0)
order by w_id, d_id, c_id;
