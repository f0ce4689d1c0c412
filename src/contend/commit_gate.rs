//! The commit gate: nobody's commit takes effect before it is opened.
//!
//! A transaction that wrote something waits, at COMMIT, for the synchronous standbys that the server names
//! (`SyncRepWaitForLSN` in PostgreSQL's syncrep.c), with its work done, its locks held, and nothing of it visible to others.
//! So while the server names a standby that doesn't exist, every session decides on the data as they were before the
//! first one committed, however its statements are written: also where the check and the write are one statement.
//!
//! The setting holds up the whole server, so this is for servers of our own only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Error;

use crate::postgres::Connection;

const NAME_NOBODY: &str = "alter system set synchronous_standby_names = 'db_race_commit_gate'";
const NAME_NONE: &str = "alter system reset synchronous_standby_names";
const RELOAD: &str = "select pg_catalog.pg_reload_conf()";
/// Writes a little WAL in a transaction, which is what makes a commit wait.
const WRITE: &str = "select pg_catalog.pg_logical_emit_message(true, 'db-race', '')";
const POLL: Duration = Duration::from_millis(1);
/// How long the server may take to take the setting up.
const RELOAD_MAX: Duration = Duration::from_secs(10);

/// A connection whose own commit shows whether the gate is closed.
#[derive(Debug)]
pub(crate) struct CommitGate {
    probe: Arc<Connection>,
    pid: i32,
}

/// The probe's commit, which ends when the gate is opened.
pub(crate) type Held = JoinHandle<Result<(), Error>>;

impl CommitGate {
    pub(crate) async fn new(probe: Connection) -> Result<CommitGate, Error> {
        let pid = probe.pid().await?;
        Ok(CommitGate {
            probe: Arc::new(probe),
            pid,
        })
    }

    /// Closes the gate, and returns when the probe is held; none when the server doesn't take the setting up.
    pub(crate) async fn close(&self, control: &Connection) -> Result<Option<Held>, Error> {
        control.batch_execute(NAME_NOBODY).await?;
        control.batch_execute(RELOAD).await?;
        let sql = "select 1 from pg_catalog.pg_stat_get_activity($1) where wait_event = 'SyncRep'";
        let is_held = control.prepare(sql).await?;
        // the server takes the new setting up when it comes to it: until then the probe goes through
        let deadline = Instant::now() + RELOAD_MAX;
        while Instant::now() < deadline {
            let probe = Arc::clone(&self.probe);
            let held = tokio::spawn(async move { probe.batch_execute(WRITE).await });
            while !held.is_finished() && Instant::now() < deadline {
                if !control.query(&is_held, &[&self.pid]).await?.is_empty() {
                    return Ok(Some(held));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        control.batch_execute(NAME_NONE).await?;
        control.batch_execute(RELOAD).await?;
        Ok(None)
    }

    /// Opens the gate, and returns when the probe has gone through.
    pub(crate) async fn open(&self, control: &Connection, held: Held) -> Result<(), Error> {
        control.batch_execute(NAME_NONE).await?;
        control.batch_execute(RELOAD).await?;
        // a probe that is late or lost holds nobody up
        match tokio::time::timeout(RELOAD_MAX, held).await {
            Ok(Ok(answer)) => answer,
            _ => Ok(()),
        }
    }
}
