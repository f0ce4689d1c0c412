//! One snapshot for several connections.
//!
//! The first connection exports its snapshot and the others import it (`pg_export_snapshot`, `SET TRANSACTION SNAPSHOT`), all of them in
//! `REPEATABLE READ READ ONLY` transactions, which are never committed. All that a connection does lies in its one transaction, and without
//! named prepared statements, so that it may be one to a pooler.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::look;
use crate::postgres::server::CLUSTER_NAME;
use crate::postgres::{ConnectError, Connection, Target, explain};
use crate::verify::{DatabaseResult, Options, Snapshot, VerifyError};

/// A connection that can't begin within this, a pooler's queue perhaps, is done without.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// What a short statement's answer takes at the most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A server that ends long or idle transactions by itself would take the snapshot away: each check has a limit of its own. What is sent
/// aside could be of any size. Keys must be the same whoever asks. Rows that a policy hides would make a check hold that doesn't, so that
/// is an error instead, as pg_dump has it.
const SETTINGS: &str = "\
    SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL client_min_messages = error; SET LOCAL row_security = off; \
    SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
    SELECT pg_catalog.set_config('transaction_timeout', '0', true) \
    WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL";

/// A connection that sees the snapshot.
pub(super) struct Worker {
    pub(super) connection: Connection,
    /// The server's process behind it.
    pub(super) pid: i32,
    /// Whether the session's advisory locks are the checks' own, so that they may be given up.
    pub(super) unlocks: bool,
}

/// The database, and what the runner wants to know of it.
pub(super) struct Facts {
    pub(super) database: DatabaseResult,
    pub(super) snapshot: Snapshot,
    /// 15 of 15.18.
    pub(super) version: u32,
    /// The snapshot's time, as the server reads it back.
    pub(super) taken_at: String,
    /// Whether the server is on this machine, as far as can be seen; a pooler may be here, and the server elsewhere.
    pub(super) is_here: bool,
}

/// A snapshot, and the connections that see it.
pub(super) struct Shared {
    pub(super) workers: Vec<Worker>,
    /// To import it by, for as long as the first worker lives.
    pub(super) id: Option<String>,
    pub(super) facts: Facts,
    pub(super) since: Instant,
}

impl Worker {
    /// What goes back to before a check. Locks of the session are no part of the transaction, so they are given up by themselves.
    pub(super) fn back(&self) -> &'static str {
        match self.unlocks {
            true => look::ROLLBACK_AND_UNLOCK,
            false => look::ROLLBACK,
        }
    }
}

/// Opens as many connections as it takes, and gives them one snapshot.
pub(super) async fn share(target: &Target, jobs: usize, options: &Options) -> Result<Shared, VerifyError> {
    let first = target.connect("verify").await?;
    let since = Instant::now();
    let facts = begin(&first, target, jobs > 1, options).await?;
    let (mut database, described) = facts;
    let mut workers = vec![Worker {
        connection: first,
        pid: described.pid,
        unlocks: described.unlocks,
    }];
    if let Some(id) = &described.id {
        let joined = futures_util::future::join_all((1..jobs).map(|_| join(target, id))).await;
        for worker in joined {
            match worker {
                Ok(worker) => workers.push(worker),
                Err(why) => {
                    let note = format!("one of {jobs} workers did not come: {why}");
                    if !database.notes.contains(&note) {
                        database.notes.push(note);
                    }
                }
            }
        }
    }
    Ok(Shared {
        workers,
        id: described.id,
        since,
        facts: Facts {
            snapshot: described.snapshot,
            version: described.version,
            taken_at: described.taken_at,
            is_here: described.is_here,
            database,
        },
    })
}

struct Described {
    pid: i32,
    unlocks: bool,
    id: Option<String>,
    version: u32,
    taken_at: String,
    is_here: bool,
    snapshot: Snapshot,
}

async fn begin(
    client: &Connection,
    target: &Target,
    exports: bool,
    options: &Options,
) -> Result<(DatabaseResult, Described), VerifyError> {
    let level = match options.deferrable {
        true => "SERIALIZABLE READ ONLY DEFERRABLE",
        false => "REPEATABLE READ READ ONLY",
    };
    // the first query takes the snapshot, so what is said of it comes then
    let sql = format!("BEGIN ISOLATION LEVEL {level}; {SETTINGS}; {DESCRIBE}, {UNLOCKS}");
    let sql = match exports {
        true => format!("{sql}; SELECT pg_catalog.pg_export_snapshot()"),
        false => sql,
    };
    let begun = rows(client, &sql);
    let rows = match options.deferrable {
        false => begun.await,
        true => match timeout(options.snapshot_age_max, begun).await {
            Ok(rows) => rows,
            Err(_) => {
                client.cancel().await;
                let wait = humantime::format_duration(options.snapshot_age_max);
                let why = format!(
                    "no safe snapshot within {wait}: SERIALIZABLE transactions that write go on for so long; \
                     pg_safe_snapshot_blocking_pids(<pid>) names them, or leave --deferrable out"
                );
                return Err(snapshot_error(target, why));
            }
        },
    };
    let rows = rows.map_err(|error| match error.code().map(|code| code.code()) {
        Some("0A000") if options.deferrable => VerifyError::Refused {
            address: target.address(),
            why: "a standby has no serializable snapshots; run it on the primary, or leave --deferrable out".into(),
        },
        _ => snapshot_error(target, explain(&error)),
    })?;
    let mut rows = rows.into_iter().skip_while(|row| row.len() < 2);
    let Some(row) = rows.next() else {
        return Err(snapshot_error(target, "the server did not describe itself".into()));
    };
    let text = |i: usize| row.get(i).cloned().flatten();
    let is_allowed = options.settled || options.allow_superuser || text(10).as_deref() == Some(CLUSTER_NAME);
    if let Some(power) = text(8).filter(|_| !is_allowed) {
        return Err(VerifyError::Refused {
            address: target.address(),
            why: format!(
                "{power}, so a check could write files or run programs there, in a read-only transaction, too; \
                 make a role that may only read (`db-race check role` prints the SQL) and connect as it, \
                 or, where you trust the checks, give --allow-superuser"
            ),
        });
    }
    let database = DatabaseResult {
        address: target.address(),
        name: target.address(),
        version: text(0).unwrap_or_default(),
        standby: text(1).as_deref() == Some("t"),
        replay_lag_ms: text(5).and_then(|lag| lag.parse().ok()),
        ..DatabaseResult::default()
    };
    let described = Described {
        pid: text(7).and_then(|pid| pid.parse().ok()).unwrap_or_default(),
        is_here: target.is_unix() && text(11).as_deref() == Some("t"),
        unlocks: text(12).as_deref() == Some("t"),
        id: rows.next().and_then(|row| row.into_iter().next().flatten()),
        version: text(6).and_then(|v| v.parse::<u32>().ok()).unwrap_or_default() / 10_000,
        taken_at: text(9).unwrap_or_default(),
        snapshot: Snapshot {
            taken_at: text(2).unwrap_or_default(),
            lsn: text(3),
            xmin: text(4),
            ..Snapshot::default()
        },
    };
    Ok((database, described))
}

/// Its ninth column says what the role could do that `READ ONLY` doesn't stop.
const DESCRIBE: &str = "\
    SELECT current_setting('server_version'), pg_is_in_recovery(),
        to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        pg_snapshot_xmin(pg_current_snapshot()),
        CASE WHEN pg_is_in_recovery() THEN
            extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 * 1000 END,
        current_setting('server_version_num'), pg_backend_pid(),
        (SELECT CASE
            WHEN rolname IN (current_user, session_user) THEN format('%s is a superuser', rolname)
            ELSE format('%s may act as %s', current_user, rolname) END
         FROM pg_catalog.pg_roles
         WHERE (rolsuper OR rolname IN ('pg_execute_server_program', 'pg_write_server_files'))
         AND (rolname = session_user OR pg_has_role(session_user, oid, 'member') OR pg_has_role(current_user, oid, 'member'))
         ORDER BY rolname IN (current_user, session_user) DESC, rolsuper DESC, rolname LIMIT 1),
        to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00'), current_setting('cluster_name'), inet_server_addr() IS NULL";

/// Whether advisory locks that the session has are those of checks. Behind a pooler, or where somebody has forgotten to unlock, another
/// client's may be among them.
const UNLOCKS: &str = "\
    has_function_privilege('pg_catalog.pg_advisory_unlock_all()', 'EXECUTE') AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";

fn snapshot_error(target: &Target, why: String) -> VerifyError {
    VerifyError::Snapshot {
        address: target.address(),
        why,
    }
}

/// Another connection that sees the snapshot.
pub(super) async fn join(target: &Target, id: &str) -> Result<Worker, String> {
    let joined = async {
        let connection = target
            .connect("verify")
            .await
            .map_err(|error: ConnectError| error.to_string())?;
        // importing comes before anything that takes a snapshot, and takes no parameters; the id is the server's own
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{id}'; {SETTINGS}; SELECT 0, pg_backend_pid(), {UNLOCKS}"
        );
        let rows = rows(&connection, &sql).await.map_err(|error| {
            let why = explain(&error);
            match why.contains("snapshot identifier") || why.contains("could not import") {
                true => format!("{why}; do several servers stand behind this address? Then use --jobs 1"),
                false => why,
            }
        })?;
        let row = rows.into_iter().find(|row| row.len() == 3).unwrap_or_default();
        let text = |i: usize| row.get(i).and_then(Option::as_deref);
        Ok(Worker {
            pid: text(1).and_then(|pid| pid.parse().ok()).ok_or("it has no process id")?,
            unlocks: text(2) == Some("t"),
            connection,
        })
    };
    match timeout(JOIN_WITHIN, joined).await {
        Ok(joined) => joined,
        Err(_) => Err(format!("no connection within {} s", JOIN_WITHIN.as_secs())),
    }
}

/// Exports the snapshot that a worker has, for those that come later.
pub(super) async fn export(client: &Client) -> Result<String, String> {
    let rows = answered(rows(client, "SELECT pg_catalog.pg_export_snapshot()")).await?;
    Ok(rows.into_iter().flatten().flatten().next().unwrap_or_default())
}

/// Ends the transactions; how old the snapshot has become, in transactions that began since.
pub(super) async fn release(workers: &[Worker]) -> Option<i64> {
    const AGE: &str = "SELECT age(backend_xmin) FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()";
    let age = match workers.first() {
        Some(worker) => answered(rows(&worker.connection, AGE)).await.ok(),
        None => None,
    };
    // the server rolls back when the connection ends, too
    let ends = workers
        .iter()
        .map(|worker| answered(worker.connection.batch_execute("ROLLBACK")));
    futures_util::future::join_all(ends).await;
    age?.into_iter().flatten().flatten().next()?.parse().ok()
}

/// What answers short statements; an error is in words. A network that swallows all that is sent would keep one waiting for ever.
pub(super) async fn answered<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
    match timeout(ANSWER_MAX, work).await {
        Ok(done) => done.map_err(|error| explain(&error)),
        Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}

/// The rows of statements, as text.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|i| row.try_get(i).ok().flatten().map(String::from))
                .collect(),
        ),
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

/// What a standby's owner can do so that snapshots live longer.
pub(super) async fn conflict_advice(target: &Target) -> String {
    const SETTINGS: &str =
        "SELECT current_setting('max_standby_streaming_delay'), current_setting('hot_standby_feedback')";
    let found = match target.connect("verify").await {
        Ok(connection) => answered(rows(&connection, SETTINGS)).await.ok(),
        Err(_) => None,
    };
    let found = found
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .flatten()
        .collect::<Vec<_>>();
    let [delay, feedback] = found.as_slice() else {
        return "raise max_standby_streaming_delay there, or turn hot_standby_feedback on".into();
    };
    format!(
        "max_standby_streaming_delay is {delay} there and hot_standby_feedback {feedback}: raise the one, or turn the other on, \
         which makes the primary's vacuum wait instead"
    )
}
