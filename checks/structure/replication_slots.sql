-- /// db-race check
-- id       = "structure.replication_slots"
-- title    = "No replication slot is lost, or has much of the log kept for it"
-- severity = "warn"
-- key      = ["slot_name"]
-- tags     = ["structure", "replication"]
-- params   = { slot_log_max = "1GB" }
-- remedy   = "bring its consumer back, or pg_drop_replication_slot it; max_slot_wal_keep_size bounds what a slot may keep"
-- ///
--
-- A slot whose consumer is gone keeps the log until the disk is full. One that was invalidated is of no use to its
-- consumer any more, which has to be built anew. Logical slots are shown in their own database only.
with slots as (
    select
        s.*,
        to_jsonb(s) as columns,
        pg_wal_lsn_diff(
            case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
            s.restart_lsn
        ) as kept
    from pg_catalog.pg_replication_slots s
    where s.database is null or s.database = current_database()
)
select
    slot_name,
    slot_type,
    active,
    wal_status,
    pg_size_pretty(kept) as log_kept,
    -- PostgreSQL 17
    columns ->> 'invalidation_reason' as invalidation_reason,
    columns ->> 'inactive_since' as inactive_since
from slots
where wal_status = 'lost'
    or columns ->> 'invalidation_reason' is not null
    or kept >= pg_size_bytes(coalesce(nullif(current_setting('race.slot_log_max', true), ''), '1GB'))
order by slot_name;
