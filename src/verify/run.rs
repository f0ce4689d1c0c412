//! Runs checks on one snapshot.
//!
//! The first worker exports its snapshot and the others import it (`pg_export_snapshot`, `SET TRANSACTION SNAPSHOT`), all in
//! `REPEATABLE READ READ ONLY`. The workers draw checks from one list. A check runs in a savepoint, so that an error or a
//! timeout ends the check and not the snapshot. Nothing is ever committed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Check, CheckResult, Count, DatabaseResult, Decision, Finding, Snapshot};
use crate::postgres::{ConnectError, Connection, Target, explain};
use crate::source::offset_of;
use crate::stop::Stop;

/// How long checks may go on after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Between requests to cancel them.
const CANCEL_PERIOD: Duration = Duration::from_millis(200);

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers, each with a connection of its own.
    pub jobs: usize,
    /// After this a check is cancelled, and could not be decided.
    pub timeout: Duration,
    /// Findings kept for reports, of each check.
    pub sample: usize,
    /// Whether the key of each row that is counted is kept.
    pub keep_keys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            jobs: 2,
            timeout: Duration::from_secs(30),
            sample: 5,
            keep_keys: false,
        }
    }
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A worker got no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The snapshot could not be made or shared.
    #[error("cannot share a snapshot at {address}: {why}")]
    Snapshot {
        /// Which database.
        address: String,
        /// The server's reason.
        why: String,
    },
}

/// What was seen of a database.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The database, and its snapshots.
    pub database: DatabaseResult,
    /// The results, in the checks' order.
    pub checks: Vec<CheckResult>,
}

/// Runs the checks.
///
/// A while after a stop was asked for no other check is begun, and those that run are cancelled.
///
/// # Errors
/// [`VerifyError`] when there is no snapshot to look at. A check that fails is a result, not an error.
pub async fn run(target: &Target, checks: &[Check], options: &Options, stop: &Stop) -> Result<Looked, VerifyError> {
    let jobs = options.jobs.clamp(1, checks.len().max(1));
    let shared = async {
        let workers = share_snapshot(target, jobs).await?;
        let database = describe(&workers[0], target).await?;
        Ok((workers, database))
    };
    let (workers, mut database) = shared.await.map_err(|error| match error {
        Broken::Connect(error) => VerifyError::Connect(error),
        Broken::Query(error) => VerifyError::Snapshot {
            address: target.address(),
            why: explain(&error),
        },
    })?;
    let since = Instant::now();
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..checks.len()).collect());
    let results: Mutex<Vec<Option<CheckResult>>> = Mutex::new(vec![None; checks.len()]);
    let is_over = AtomicBool::new(false);
    let work = workers.iter().map(|worker| async {
        // the checks that are left are for those who still have a connection
        while !is_over.load(Ordering::Relaxed) && !worker.is_closed() {
            // its own statement, so that the queue isn't locked while the check runs
            let next = lock(&queue).pop_front();
            let Some(i) = next else { break };
            let result = decide(worker, &checks[i], options).await;
            lock(&results)[i] = Some(result);
        }
        // the server rolls back when the connection ends, too
        let _ = worker.batch_execute("ROLLBACK").await;
    });
    tokio::select! {
        _ = futures_util::future::join_all(work) => {}
        never = cancel_when_stopped(&workers, stop, &is_over) => match never {},
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let why = match is_over.into_inner() {
        true => "interrupted before its turn",
        false => "the connection was lost before its turn",
    };
    let not_begun = |check: &Check| CheckResult {
        decision: Decision::CouldNotDecide,
        reason: Some(why.into()),
        ..CheckResult::of(check)
    };
    if let Some(snapshot) = database.snapshots.first_mut() {
        snapshot.held_ms = since.elapsed().as_secs_f64() * 1e3;
    }
    let results = results.into_iter().zip(checks);
    let checks = results.map(|(result, check)| result.unwrap_or_else(|| not_begun(check)));
    Ok(Looked {
        checks: checks.collect(),
        database,
    })
}

/// The database, and the snapshot that this worker has.
async fn describe(worker: &Client, target: &Target) -> Result<DatabaseResult, tokio_postgres::Error> {
    let row = worker
        .query_one(
            "select current_setting('server_version'), pg_is_in_recovery(),
                    to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                    (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text,
                    pg_snapshot_xmin(pg_current_snapshot())::text,
                    case when pg_is_in_recovery() then
                        extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 * 1000 end",
            &[],
        )
        .await?;
    Ok(DatabaseResult {
        address: target.address(),
        name: target.address(),
        version: row.get(0),
        standby: row.get(1),
        replay_lag_ms: row.get(5),
        snapshots: vec![Snapshot {
            taken_at: row.get(2),
            lsn: row.get(3),
            xmin: row.get(4),
            held_ms: 0.0,
        }],
    })
}

async fn cancel_when_stopped(workers: &[Connection], stop: &Stop, is_over: &AtomicBool) -> Infallible {
    stop.requested().await;
    stop.grace(STOP_GRACE).await;
    loop {
        is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            // one that doesn't get through is sent again
            worker.cancel().await;
        }
        tokio::time::sleep(CANCEL_PERIOD).await;
    }
}

enum Broken {
    Connect(ConnectError),
    Query(tokio_postgres::Error),
}

impl From<ConnectError> for Broken {
    fn from(error: ConnectError) -> Self {
        Broken::Connect(error)
    }
}

impl From<tokio_postgres::Error> for Broken {
    fn from(error: tokio_postgres::Error) -> Self {
        Broken::Query(error)
    }
}

async fn share_snapshot(target: &Target, jobs: usize) -> Result<Vec<Connection>, Broken> {
    // a server that ends long or idle transactions by itself would take the snapshot away; each check has a limit of its own
    const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
        SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
    let exporter = target.connect("verify").await?;
    exporter.batch_execute(BEGIN).await?;
    let mut workers = vec![];
    if jobs > 1 {
        let snapshot: String = exporter.query_one("select pg_export_snapshot()", &[]).await?.get(0);
        // importing comes before anything that takes a snapshot, and takes no parameters; the id is the server's own
        let import = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'");
        for _ in 1..jobs {
            let worker = target.connect("verify").await?;
            worker.batch_execute(&import).await?;
            workers.push(worker);
        }
    }
    workers.push(exporter);
    Ok(workers)
}

async fn decide(client: &Client, check: &Check, options: &Options) -> CheckResult {
    let started = Instant::now();
    let mut result = CheckResult {
        snapshot: Some(0),
        ..CheckResult::of(check)
    };
    if let Err(reason) = look(client, check, options, &mut result).await {
        result.decision = Decision::CouldNotDecide;
        result.reason = Some(reason);
    } else if result.count > 0 {
        result.decision = Decision::Violated;
        result.level = Some(check.severity);
    }
    result.duration_ms = started.elapsed().as_secs_f64() * 1e3;
    result
}

async fn look(client: &Client, check: &Check, options: &Options, result: &mut CheckResult) -> Result<(), String> {
    let begin = format!(
        "SAVEPOINT db_race_check; SET LOCAL statement_timeout = {}",
        options.timeout.as_millis()
    );
    client.batch_execute(&begin).await.map_err(|e| explain(&e))?;
    let looked = fetch(client, check, options, result).await;
    // also restores statement_timeout
    let ended = client
        .batch_execute("ROLLBACK TO db_race_check; RELEASE db_race_check")
        .await;
    looked?;
    ended.map_err(|e| explain(&e))
}

async fn fetch(client: &Client, check: &Check, options: &Options, result: &mut CheckResult) -> Result<(), String> {
    let sql = &*check.source.text;
    // The extended protocol takes one statement only, so what is pasted behind DECLARE below is one statement, and
    // an error's position is that of the file.
    let statement = client.prepare(sql).await.map_err(|error| {
        let mut why = explain(&error);
        if let Some(tokio_postgres::error::ErrorPosition::Original(at)) =
            error.as_db_error().and_then(|db| db.position())
        {
            why = format!("{why} (line {})", check.source.line(offset_of(sql, *at)));
        }
        why
    })?;
    let columns: Vec<&str> = statement.columns().iter().map(|c| c.name()).collect();
    let mut key = Vec::new();
    for name in &check.key {
        match columns.iter().position(|c| c == name) {
            Some(at) => key.push(at),
            None => return Err(format!("the key column `{name}` is not in its result")),
        }
    }
    let declare = format!("DECLARE db_race_check NO SCROLL CURSOR FOR\n{sql}");
    client.batch_execute(&declare).await.map_err(|e| explain(&e))?;
    let count_max = match check.count {
        Count::Capped(cap) => cap,
        Count::Exact => u64::MAX - 1,
        Count::None => 1,
    };
    loop {
        let wanted = count_max + 1 - result.count;
        let batch = wanted.min(1_000);
        let messages = client
            .simple_query(&format!("FETCH {batch} FROM db_race_check"))
            .await
            .map_err(|e| explain(&e))?;
        let before = result.count;
        for message in &messages {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            result.count += 1;
            if options.keep_keys && result.count <= count_max {
                result
                    .keys
                    .push(key.iter().map(|i| row.get(*i).map(String::from)).collect());
            }
            if result.findings.len() < options.sample {
                let value = |i: usize| row.get(i).map(String::from);
                result.findings.push(Finding {
                    key: key.iter().map(|i| value(*i)).collect(),
                    row: columns
                        .iter()
                        .enumerate()
                        .map(|(i, c)| (c.to_string(), value(i)))
                        .collect(),
                    pending: false,
                });
            }
        }
        if result.count > count_max {
            result.count = count_max;
            result.count_is_capped = true;
        }
        if result.count_is_capped || result.count - before < batch {
            return Ok(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
