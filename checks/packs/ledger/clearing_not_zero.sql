-- /// db-race check
-- id       = "ledger.clearing_not_zero"
-- title    = "What came into a clearing account has left it again"
-- severity = "error"
-- key      = ["account_id", "clearing_ref", "currency"]
-- tags     = ["ledger", "stuck"]
-- grace    = { column = "opened_at", for = "1 day" }
-- remedy   = "find the leg that is missing under this reference: a payout that never came, or one that came twice"
--
-- [needs]
-- account = ["account_id", "is_clearing"]
-- entry   = ["account_id", "clearing_ref", "amount", "currency", "posted_at"]
-- ///
--
-- The grace is the account's time to clear: until then an open reference is the normal course of things.
select
    account_id,
    entry.clearing_ref,
    entry.currency,
    sum(entry.amount) as open_amount,
    min(entry.posted_at) as opened_at
from account
join entry using (account_id)
where account.is_clearing
group by account_id, entry.clearing_ref, entry.currency
having sum(entry.amount) <> 0
order by account_id, entry.clearing_ref, entry.currency;
