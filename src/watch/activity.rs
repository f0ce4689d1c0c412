//! What the backends of the race do, sample by sample.

use std::time::SystemTime;

use tokio_postgres::Row;

/// What a server process does, as far as waiting is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BackendState {
    /// It has a transaction open, and nobody has asked it for anything.
    pub(super) is_idle_in_transaction: bool,
    pub(super) waits_for_a_lock: bool,
    /// When its statement began, by the server's clock.
    pub(super) statement: Option<SystemTime>,
}

/// Other sessions of this database, those of which there is something to say. The function is asked, not the view, which joins it with
/// two tables.
pub(super) const ACTIVITY: &str = "\
select pid, starts_with(state, 'idle in transaction'), wait_event_type = 'Lock', query_start
from pg_catalog.pg_stat_get_activity(null)
where datid = (select oid from pg_catalog.pg_database where datname = current_database())
  and pid <> pg_catalog.pg_backend_pid()
  and (starts_with(state, 'idle in transaction') or wait_event_type = 'Lock')";

/// A row of [`ACTIVITY`].
pub(super) fn read(row: &Row) -> (i32, BackendState) {
    let is = |column| row.get::<_, Option<bool>>(column).unwrap_or(false);
    let state = BackendState {
        is_idle_in_transaction: is(1),
        waits_for_a_lock: is(2),
        statement: row.get(3),
    };
    (row.get(0), state)
}
