-- /// db-race check
-- id       = "structure.prepared_transactions"
-- title    = "No prepared transaction was left behind"
-- severity = "warn"
-- key      = ["gid"]
-- tags     = ["structure", "sessions", "locks", "vacuum"]
-- run_on   = "primary"
-- params   = { prepared_after = "5min" }
-- remedy   = "ask its transaction manager, then COMMIT PREPARED or ROLLBACK PREPARED in this database"
-- ///
--
-- It keeps its locks, and keeps vacuum from removing what died since, for ever: over reconnects and restarts. A
-- standby does not show them.
select
    gid,
    owner,
    prepared,
    date_trunc('second', clock_timestamp() - prepared) as age,
    age(transaction) as transactions_since
from pg_catalog.pg_prepared_xacts
where database = current_database()
    and prepared
        < clock_timestamp() - coalesce(nullif(current_setting('race.prepared_after', true), ''), '5min')::interval
order by gid;
