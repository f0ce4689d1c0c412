-- /// db-race check
-- id       = "tpcc.c10_customer_balance"
-- title    = "10: C_BALANCE is what was delivered less what was paid"
-- severity = "error"
-- key      = ["w_id", "d_id", "c_id"]
-- tags     = ["tpcc", "slow"]
-- timeout  = "10m"
-- ///
--
-- Clause 3.3.2.10: sum(OL_AMOUNT) of delivered lines - sum(H_AMOUNT). A customer pays at any warehouse; the payment
-- counts where he is at home (H_C_W_ID, H_C_D_ID). What belongs to a customer who is not there breaks it as well.
select
    w_id,
    d_id,
    c_id,
    c.c_balance,
    coalesce(d.delivered, 0) as delivered,
    coalesce(h.paid, 0) as paid
from (select c_w_id as w_id, c_d_id as d_id, c_id, c_balance from customer) as c
full join (
    select o.o_w_id as w_id, o.o_d_id as d_id, o.o_c_id as c_id, sum(l.ol_amount) as delivered
    from orders o
    join order_line l on (l.ol_w_id, l.ol_d_id, l.ol_o_id) = (o.o_w_id, o.o_d_id, o.o_id)
    where l.ol_delivery_d is not null
    group by o.o_w_id, o.o_d_id, o.o_c_id
) as d using (w_id, d_id, c_id)
full join (
    select h_c_w_id as w_id, h_c_d_id as d_id, h_c_id as c_id, sum(h_amount) as paid
    from history
    group by h_c_w_id, h_c_d_id, h_c_id
) as h using (w_id, d_id, c_id)
where c.c_balance is distinct from coalesce(d.delivered, 0) - coalesce(h.paid, 0)
order by w_id, d_id, c_id;
