-- /// db-race check
-- id       = "ledger.duplicate_ref"
-- title    = "No two transactions have the same external reference"
-- severity = "error"
-- key      = ["external_ref"]
-- tags     = ["ledger", "duplicate"]
-- remedy   = "make the reference unique, and insert ... on conflict do nothing; a retry was booked twice"
--
-- [needs]
-- txn = ["txn_id", "external_ref"]
-- ///
select external_ref, count(*) as transactions, array_agg(txn_id order by txn_id) as txn_ids
from txn
where external_ref is not null
group by external_ref
having count(*) > 1
order by external_ref;
