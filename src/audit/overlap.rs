//! One audit of a name at a time on a database, wherever it is started from.
//!
//! An advisory lock of a transaction of its own, held for the whole run: through a transaction pooler only these stay where they were taken, and
//! the server lets go when the connection ends, however it ends. The transaction is read only and READ COMMITTED, so while it idles it has no
//! snapshot and holds back no vacuum. On a standby it works too, and knows of the runs on that standby only.

use tokio_postgres::SimpleQueryMessage;

use crate::postgres::{ConnectError, Connection, Target, explain};

use super::fingerprint::fnv1a;

/// The class of all our locks: `dbra`, as `pg_locks.classid` shows it.
const CLASS: i32 = 0x6462_7261;
/// The lock on a memory in a database.
pub(super) const STATE: &str = "\0memory";

/// The lock, until this is dropped.
#[derive(Debug)]
pub struct Guard {
    _connection: Connection,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum OverlapError {
    /// The database can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another run has it.
    #[error(
        "another audit is running on {0}; this one has looked at nothing. Audits that are to run at the same time need a --name each"
    )]
    Busy(String),
    /// The server refused.
    #[error("cannot lock {address} against other audits: {why}")]
    Failed {
        /// The database.
        address: String,
        /// The server's reason.
        why: String,
    },
}

impl Guard {
    /// Takes the lock of a name, or fails at once.
    ///
    /// # Errors
    /// [`OverlapError`].
    pub async fn take(target: &Target, role: &str, name: &str) -> Result<Guard, OverlapError> {
        let connection = target.connect(&format!("audit-{role}")).await?;
        let failed = |error: tokio_postgres::Error| OverlapError::Failed {
            address: target.address(),
            why: explain(&error),
        };
        // a server that ends long or idle transactions by itself would let go of it; those of these settings that it has
        let lasting = "begin isolation level read committed read only; \
             select set_config(name, '0', true) from pg_catalog.pg_settings where name in \
             ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout', 'lock_timeout')";
        connection.batch_execute(lasting).await.map_err(failed)?;
        let hash = fnv1a(name.as_bytes());
        // both halves, as the signed number that the function takes
        let key = ((hash >> 32) as u32 ^ hash as u32).cast_signed();
        // By the simple protocol: after the extended one the portal stays, and with it a snapshot that holds back vacuum.
        let lock = format!("select pg_try_advisory_xact_lock({CLASS}, {key})");
        let answer = connection.simple_query(&lock).await.map_err(failed)?;
        let is_ours = answer.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
            _ => false,
        });
        match is_ours {
            true => Ok(Guard {
                _connection: connection,
            }),
            false => Err(OverlapError::Busy(target.address())),
        }
    }
}
