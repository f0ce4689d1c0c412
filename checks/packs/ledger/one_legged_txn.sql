-- /// db-race check
-- id       = "ledger.one_legged_txn"
-- title    = "Every transaction has at least two entries"
-- severity = "error"
-- key      = ["txn_id"]
-- tags     = ["ledger", "integrity"]
-- remedy   = "write all entries of a transaction in one database transaction"
--
-- [needs]
-- txn   = ["txn_id"]
-- entry = ["txn_id"]
-- ///
--
-- An entry of zero balances by itself, and an entry without its transaction is found here as well.
with leg as (
    select txn_id, count(*) as legs
    from entry
    group by txn_id
)
select txn_id, coalesce(leg.legs, 0) as entries, txn.txn_id is null as has_no_transaction
from txn
full join leg using (txn_id)
where coalesce(leg.legs, 0) < 2 or txn.txn_id is null
order by txn_id;
