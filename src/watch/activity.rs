//! What the backends of the race do, sample by sample.

use std::time::{Duration, Instant};

use tokio_postgres::Row;

/// The state of a server process, as `pg_stat_activity` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendState {
    /// `active`, `idle in transaction`, `idle`, ...
    pub(crate) state: String,
    /// `Lock`, `Client`, ...; none when it waits for nothing.
    pub(crate) wait_event_type: Option<String>,
    /// `transactionid`, `ClientRead`, ...
    pub(crate) wait_event: Option<String>,
    /// When it came into this state.
    pub(crate) since: Instant,
}

impl BackendState {
    /// It has a transaction open, and nobody has asked it for anything.
    pub(crate) fn is_idle_in_transaction(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }

    pub(crate) fn waits_for_a_lock(&self) -> bool {
        self.wait_event_type.as_deref() == Some("Lock")
    }
}

/// Other sessions of this database. The function is asked, not the view, which joins it with two tables.
pub(super) const ACTIVITY: &str = "\
select pid, coalesce(state, ''), wait_event_type, wait_event,
       (extract(epoch from clock_timestamp() - state_change) * 1e6)::int8
from pg_catalog.pg_stat_get_activity(null)
where datid = (select oid from pg_catalog.pg_database where datname = current_database())
  and pid <> pg_catalog.pg_backend_pid()";

/// A row of [`ACTIVITY`], read at `at`.
pub(super) fn read(row: &Row, at: Instant) -> (i32, BackendState) {
    let age: Option<i64> = row.get(4);
    let age = Duration::from_micros(age.and_then(|a| u64::try_from(a).ok()).unwrap_or(0));
    let state = BackendState {
        state: row.get(1),
        wait_event_type: row.get(2),
        wait_event: row.get(3),
        since: at.checked_sub(age).unwrap_or(at),
    };
    (row.get(0), state)
}
