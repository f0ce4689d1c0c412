-- /// db-race check
-- id       = "ledger.balance_differs_from_entries"
-- title    = "An account's balance is the sum of its entries"
-- severity = "error"
-- key      = ["account_id"]
-- tags     = ["ledger", "counter"]
-- remedy   = "change the balance in the transaction that writes the entry, by update ... set balance = balance + n: a value that was read before loses another one's update"
--
-- [needs]
-- account = ["account_id", "balance"]
-- entry   = ["account_id", "amount"]
-- ///
with booked as (
    select account_id, sum(amount) as booked
    from entry
    group by account_id
)
select
    account_id,
    account.balance,
    booked.booked,
    coalesce(account.balance, 0) - coalesce(booked.booked, 0) as difference
from account
full join booked using (account_id)
where coalesce(account.balance, 0) is distinct from coalesce(booked.booked, 0)
order by account_id;
