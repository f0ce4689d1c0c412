-- /// db-race check
-- id       = "ledger.changed_after_posting"
-- title    = "No entry was changed after it had been posted"
-- severity = "error"
-- key      = ["entry_id"]
-- tags     = ["ledger", "history"]
-- remedy   = "correct by an entry of its own; revoke update and delete on the entries from the application's role"
--
-- [needs]
-- entry = ["entry_id", "txn_id", "account_id", "posted_at", "updated_at"]
-- ///
select entry_id, txn_id, account_id, posted_at, updated_at
from entry
where updated_at > posted_at
order by entry_id;
