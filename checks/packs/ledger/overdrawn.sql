-- /// db-race check
-- id       = "ledger.overdrawn"
-- title    = "No account is below zero that may not be"
-- severity = "error"
-- key      = ["account_id"]
-- tags     = ["ledger", "capacity"]
-- remedy   = "withdraw by update ... where balance >= n, and look at the number of rows; or add check (may_overdraw or balance >= 0)"
--
-- [needs]
-- account = ["account_id", "balance", "may_overdraw"]
-- ///
select account_id, balance
from account
where balance < 0 and not coalesce(may_overdraw, false)
order by account_id;
