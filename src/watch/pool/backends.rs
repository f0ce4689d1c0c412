//! What the server's processes do: one query, for whoever needs it.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

/// The function behind `pg_stat_activity`: the view also reads `pg_authid`, which somebody may have locked.
///
/// The queue in front of a waiter is asked for those only that wait for a lock: it costs a look at all lock tables.
const BACKENDS: &str = "\
select a.pid, coalesce(a.state, '') as state, coalesce(a.application_name, '') as application,
       a.wait_event_type = 'Lock' as waits_for_lock, a.wait_event = 'SyncRep' as waits_for_standby,
       case when a.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(a.pid) else '{}' end as blockers
from pg_catalog.pg_stat_get_activity(null) a
where a.state is not null and a.pid <> pg_catalog.pg_backend_pid()";

/// A process of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend {
    /// As `pg_stat_activity` has it.
    pub(crate) state: String,
    pub(crate) application: String,
    pub(crate) waits_for_lock: bool,
    /// At a commit gate.
    pub(crate) waits_for_standby: bool,
    /// Who holds what it waits for, or stands in front of it.
    pub(crate) blockers: Vec<i32>,
}

impl Backend {
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }
}

/// All that a client is connected to, by process id.
pub(crate) async fn backends(client: &Client) -> Result<HashMap<i32, Backend>, Error> {
    let rows = client.query(BACKENDS, &[]).await?;
    let backend = |row: &tokio_postgres::Row| Backend {
        state: row.get("state"),
        application: row.get("application"),
        waits_for_lock: row.get::<_, Option<bool>>("waits_for_lock").unwrap_or(false),
        waits_for_standby: row.get::<_, Option<bool>>("waits_for_standby").unwrap_or(false),
        blockers: row.get("blockers"),
    };
    Ok(rows.iter().map(|row| (row.get("pid"), backend(row))).collect())
}

/// The process at the end of a queue: it holds what others wait for, and waits for no lock. None when they wait for one another, or
/// it has gone on since.
pub(crate) fn root(pid: i32, backends: &HashMap<i32, Backend>) -> Option<i32> {
    let mut seen = vec![pid];
    let mut next = 0;
    while let Some(at) = seen.get(next).copied() {
        next += 1;
        let Some(backend) = backends.get(&at) else {
            // a process that is no client's: a worker, or a prepared transaction
            return Some(at);
        };
        if !backend.waits_for_lock {
            return (at != pid).then_some(at);
        }
        for blocker in &backend.blockers {
            if !seen.contains(blocker) {
                seen.push(*blocker);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_behind_all_followers() {
        let waits = |blockers: &[i32]| Backend {
            state: "active".into(),
            waits_for_lock: true,
            blockers: blockers.to_vec(),
            ..Backend::default()
        };
        let all = HashMap::from([
            (1, Backend::default()),
            (2, waits(&[1])),
            (3, waits(&[2])),
            (4, waits(&[2, 3])),
            (5, waits(&[6])),
            (6, waits(&[5])),
            (7, waits(&[0])),
        ]);
        assert_eq!([2, 3, 4].map(|pid| root(pid, &all)), [Some(1); 3]);
        assert_eq!(root(5, &all), None, "a deadlock");
        assert_eq!(root(7, &all), Some(0), "a prepared transaction");
        assert_eq!(root(1, &all), None);
    }
}
