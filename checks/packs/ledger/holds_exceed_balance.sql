-- /// db-race check
-- id       = "ledger.holds_exceed_balance"
-- title    = "No more is set aside on an account than there is"
-- severity = "error"
-- key      = ["account_id"]
-- tags     = ["ledger", "capacity"]
-- remedy   = "lock the account's row before its holds are summed up, or keep the sum in the account with a check on it"
--
-- [needs]
-- account      = ["account_id", "balance", "may_overdraw"]
-- account_hold = ["account_id", "amount", "is_active"]
-- ///
with held as (
    select account_id, sum(amount) as held, count(*) as holds
    from account_hold
    where is_active
    group by account_id
)
select account_id, account.balance, held.held, held.holds
from account
join held using (account_id)
where held.held > account.balance and not coalesce(account.may_overdraw, false)
order by account_id;
