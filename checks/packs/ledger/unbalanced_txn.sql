-- /// db-race check
-- id       = "ledger.unbalanced_txn"
-- title    = "The entries of a transaction add up to nothing, in each currency"
-- severity = "error"
-- key      = ["txn_id", "currency"]
-- tags     = ["ledger", "integrity"]
-- remedy   = "write all entries of a transaction in one database transaction, and check the sum in a deferred constraint trigger"
--
-- [needs]
-- entry = ["txn_id", "amount", "currency"]
-- ///
select txn_id, currency, sum(amount) as difference, count(*) as entries
from entry
group by txn_id, currency
having sum(amount) <> 0
order by txn_id, currency;
