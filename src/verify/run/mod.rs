//! Runs checks on one snapshot of a database.
//!
//! ```text
//! snapshot (share) ──> board (tasks) ──> workers: look (begin, declare, fetch) ──> case ──> judge ──> CheckResult
//!        ^                                                                  │
//!        └── another snapshot: what a standby has cut off, what is to be confirmed
//! ```
//!
//! The workers draw checks from one board. A check runs behind a savepoint, so that an error or a timeout ends the check and not the
//! snapshot. Nothing is ever committed.

mod board;
mod case;
mod chunk;
mod databases;
mod inspect;
mod judge;
mod limit;
mod look;
mod order;
mod require;
mod snapshot;
mod sql;
mod worker;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Check, CheckResult, DatabaseResult, Decision, Key, Options, Snapshot};
use crate::postgres::{ConnectError, Target};
use crate::stop::Stop;
use board::{Board, Task};
use case::Case;
use judge::Rows;
pub(crate) use judge::level;
use snapshot::{Shared, Worker};
use worker::Shift;

pub use databases::{Found, Named, run_all};
pub use inspect::inspect;

/// How long checks may go on after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Snapshots that are taken for checks which a standby, or a lost connection, has cut off.
const SNAPSHOTS_MAX: u32 = 3;
/// Before another one; twice as long before the next.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// A snapshot that was held for longer is worth a word.
const HELD_LONG: Duration = Duration::from_secs(60);

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No worker got a connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The snapshot could not be made.
    #[error("cannot share a snapshot at {address}: {why}")]
    Snapshot {
        /// Which database.
        address: String,
        /// The server's reason.
        why: String,
    },
    /// It is not to be run there, or not in this way.
    #[error("refused at {address}: {why}")]
    Refused {
        /// Which database.
        address: String,
        /// Why, and what to do.
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

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Which of the databases, from 0.
    pub database: usize,
    /// Checks that are done.
    pub done: usize,
    /// Of how many.
    pub of: usize,
    /// The check that is walked in ranges just now: its id, how many ranges are done, and of how many.
    pub walking: Option<(String, usize, usize)>,
}

/// What a whole run of a database goes by.
struct Env<'a> {
    target: &'a Target,
    checks: &'a [Check],
    options: &'a Options,
    on: &'a (dyn Fn(Progress) + Sync),
}

/// What the checks of one snapshot go by.
struct Snapshots<'a> {
    database: usize,
    standby: bool,
    /// When it was taken.
    taken_at: &'a str,
    /// By check: the only keys that count.
    only: &'a BTreeMap<usize, Vec<Key>>,
}

impl Env<'_> {
    fn tell(&self, database: usize, cases: &[Case]) {
        let wanted = cases.iter().filter(|case| case.is_wanted);
        let walking = cases
            .iter()
            .zip(self.checks)
            .find(|(case, _)| case.parts > 1 && !case.is_done());
        (self.on)(Progress {
            database,
            of: self.checks.len(),
            done: self.checks.len() - wanted.filter(|case| !case.is_done()).count(),
            walking: walking.map(|(case, check)| (check.id.clone(), case.parts - case.parts_left, case.parts)),
        });
    }
}

/// Runs the checks on one database.
///
/// A while after a stop was asked for no other check is begun, and those that run are cancelled.
///
/// # Errors
/// [`VerifyError`] when there is no snapshot to look at. A check that fails is a result, not an error.
pub async fn run(target: &Target, checks: &[Check], options: &Options, stop: &Stop) -> Result<Looked, VerifyError> {
    run_watched(target, 0, checks, options, stop, &|_| {}).await
}

async fn run_watched(
    target: &Target,
    nth: usize,
    checks: &[Check],
    options: &Options,
    stop: &Stop,
    on: &(dyn Fn(Progress) + Sync),
) -> Result<Looked, VerifyError> {
    let env = Env {
        target,
        checks,
        options,
        on,
    };
    let mut results: Vec<Option<CheckResult>> = vec![None; checks.len()];
    let mut left: Vec<usize> = (0..checks.len()).collect();
    let mut database: Option<DatabaseResult> = None;
    let mut pause = SNAPSHOT_PAUSE;
    for _ in 0..SNAPSHOTS_MAX {
        let shared = match (open(&env, &left).await, &mut database) {
            (Ok(shared), _) => shared,
            (Err(error), None) => return Err(error),
            (Err(error), Some(known)) => {
                known.notes.push(error.to_string());
                break;
            }
        };
        let looked = on_snapshot(&env, nth, shared, &left, &BTreeMap::new(), stop).await;
        let known = database.get_or_insert_with(|| looked.database.clone());
        let snapshot = known.add(looked.snapshot);
        left.clear();
        // those that were begun come last next time: one of them may be what ends connections
        let (begun, waiting) = looked
            .cases
            .into_iter()
            .partition::<Vec<_>, _>(|(_, case)| case.is_begun());
        for (i, case) in waiting.into_iter().chain(begun) {
            match case.conflict.is_some() && !stop.is_requested() {
                true => {
                    left.push(i);
                    let why = case.conflict.clone().unwrap_or_default();
                    results[i] = Some(case.result(&checks[i], options, &why));
                }
                false => {
                    let mut result = case.result(&checks[i], options, &looked.not_begun);
                    result.snapshot = Some(snapshot).filter(|_| result.decision != Decision::Skipped);
                    results[i] = Some(result);
                }
            }
        }
        if left.is_empty() || stop.is_requested() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause *= 2,
            () = stop.requested() => break,
        }
    }
    let mut database = database.unwrap_or_default();
    if !left.is_empty() && database.standby {
        let advice = snapshot::conflict_advice(target).await;
        for i in left {
            let reason = results[i].as_ref().and_then(|r| r.reason.clone()).unwrap_or_default();
            let why = format!("the standby could not keep a snapshot for it: {reason}; {advice}");
            results[i] = Some(undecided(&checks[i], why));
        }
    }
    let mut results: Vec<CheckResult> = results
        .into_iter()
        .zip(checks)
        .map(|(result, check)| result.unwrap_or_else(|| undecided(check, "it was not run".into())))
        .collect();
    confirm(&env, nth, &mut database, &mut results, stop).await;
    for result in &mut results {
        result.database = nth;
        if !options.keep_keys {
            result.keys.clear();
            result.keys_pending.clear();
        }
    }
    database.note_long_snapshots();
    Ok(Looked {
        database,
        checks: results,
    })
}

fn undecided(check: &Check, why: String) -> CheckResult {
    CheckResult {
        decision: Decision::CouldNotDecide,
        reason: Some(why),
        ..CheckResult::of(check)
    }
}

async fn open(env: &Env<'_>, wanted: &[usize]) -> Result<Shared, VerifyError> {
    // one that is walked keeps all of them busy
    let is_walked = wanted.iter().any(|i| env.checks[*i].chunk.is_some());
    let useful = if is_walked { usize::MAX } else { wanted.len().max(1) };
    snapshot::share(env.target, env.options.jobs.clamp(1, useful), env.options).await
}

/// What a snapshot has shown.
struct OnSnapshot {
    database: DatabaseResult,
    snapshot: Snapshot,
    /// By the check's place in the run.
    cases: Vec<(usize, Case)>,
    /// Why some were not begun.
    not_begun: String,
}

async fn on_snapshot(
    env: &Env<'_>,
    nth: usize,
    shared: Shared,
    wanted: &[usize],
    only: &BTreeMap<usize, Vec<Key>>,
    stop: &Stop,
) -> OnSnapshot {
    let facts = shared.facts;
    let standby = facts.database.standby;
    let mut cases = vec![Case::default(); env.checks.len()];
    let mut tasks = Vec::new();
    for i in wanted {
        cases[*i] = Case::wanted();
        let check = &env.checks[*i];
        let off = check.off.as_ref().or(check.missing.as_ref());
        match off.cloned().or_else(|| require::unfit(check, facts.version, standby)) {
            Some(why) => cases[*i].skip(why),
            None => tasks.push(Task::new(*i, None)),
        }
    }
    let on = Snapshots {
        database: nth,
        standby,
        taken_at: &facts.taken_at,
        only,
    };
    let count = shared.workers.len();
    if count > 1 && tasks.len() > count {
        order::longest_first(&shared.workers[0], env, &facts.taken_at, &mut tasks).await;
    }
    let shift = Shift {
        env,
        on: &on,
        board: Board::new(tasks, count, facts.is_here && fills_cores(count), shared.id),
        cases: Mutex::new(cases),
        is_shared: count > 1,
    };
    env.tell(nth, &shift.cases());
    let workers = shared.workers.into_iter().enumerate();
    let work = futures_util::future::join_all(workers.map(|(i, worker)| shift.work(i, worker)));
    let alive: Vec<Worker> = tokio::select! {
        alive = work => alive.into_iter().flatten().collect(),
        never = end_in_time(&shift.board, shared.since, env.options, stop) => match never {},
    };
    let xmin_age = snapshot::release(&alive).await;
    let mut cases = std::mem::take(&mut *shift.cases());
    let why_over = shift.board.why_over();
    if why_over.is_none() {
        // with the last connection the snapshot is gone
        for task in shift.board.left() {
            let why = task
                .lost_by
                .unwrap_or_else(|| "the connection was lost before its turn".into());
            cases[task.check].conflict.get_or_insert(why);
        }
    }
    OnSnapshot {
        database: facts.database,
        snapshot: Snapshot {
            held_ms: shared.since.elapsed().as_secs_f64() * 1e3,
            xmin_age,
            ..facts.snapshot
        },
        cases: cases
            .into_iter()
            .enumerate()
            .filter(|(_, case)| case.is_wanted)
            .collect(),
        not_begun: why_over.unwrap_or_else(|| "it was not run".into()),
    }
}

/// Whether so many workers keep all cores of this machine busy.
fn fills_cores(workers: usize) -> bool {
    thread::available_parallelism().is_ok_and(|cores| workers >= cores.get())
}

/// Ends what goes on when a stop was asked for, or when the snapshot is too old.
async fn end_in_time(board: &Board, since: Instant, options: &Options, stop: &Stop) -> Infallible {
    let too_old = tokio::time::Instant::from_std(since) + options.snapshot_age_max;
    tokio::select! {
        () = async { stop.requested().await; stop.grace(STOP_GRACE).await } => board.end("interrupted"),
        () = tokio::time::sleep_until(too_old) => {
            let age = humantime::format_duration(options.snapshot_age_max);
            board.end(&format!("the snapshot was given up when it was {age} old (--max-snapshot-age), so that vacuum gets on"));
        }
    }
    std::future::pending().await
}

/// Looks again, on a later snapshot, for the rows of those checks that ask for it: what is gone by then was only on its way.
async fn confirm(env: &Env<'_>, nth: usize, database: &mut DatabaseResult, results: &mut [CheckResult], stop: &Stop) {
    let mut only = BTreeMap::new();
    let mut wait = Duration::ZERO;
    for (i, (check, result)) in env.checks.iter().zip(results.iter()).enumerate() {
        let Some(time) = check.confirm.filter(|_| !env.options.settled) else {
            continue;
        };
        if result.decision == Decision::Violated {
            only.insert(i, result.keys.clone());
            wait = wait.max(time);
        }
    }
    if only.is_empty() {
        return;
    }
    let wanted: Vec<usize> = only.keys().copied().collect();
    let cannot = |results: &mut [CheckResult], i: usize, why: &str| {
        results[i] = CheckResult {
            duration_ms: results[i].duration_ms,
            ..undecided(
                &env.checks[i],
                format!("it found rows, and could not be run again to confirm them: {why}"),
            )
        };
    };
    let shared = tokio::select! {
        shared = async { tokio::time::sleep(wait).await; open(env, &wanted).await } => shared.map_err(|e| e.to_string()),
        () = stop.requested() => Err("interrupted".into()),
    };
    let shared = match shared {
        Ok(shared) => shared,
        Err(why) => return wanted.iter().for_each(|i| cannot(results, *i, &why)),
    };
    let looked = on_snapshot(env, nth, shared, &wanted, &only, stop).await;
    let snapshot = database.add(looked.snapshot);
    for (i, case) in looked.cases {
        let first = results[i].clone();
        let why = case.conflict.clone().unwrap_or_else(|| looked.not_begun.clone());
        let again = case.result(&env.checks[i], env.options, &why);
        match again.decision {
            Decision::CouldNotDecide | Decision::Skipped => {
                cannot(results, i, again.reason.as_deref().unwrap_or_default())
            }
            _ if again.count == 0 && first.count_is_capped => cannot(
                results,
                i,
                "the rows that were counted are gone, and it has more than it counts; raise `count`",
            ),
            _ => {
                let pending = first.findings.into_iter().filter(|finding| finding.pending);
                let rows = Rows {
                    count: again.count,
                    is_capped: again.count_is_capped || first.count_is_capped,
                    pending: first.pending,
                    findings: again
                        .findings
                        .into_iter()
                        .filter(|f| !f.pending)
                        .chain(pending)
                        .collect(),
                    keys: again.keys,
                    keys_pending: first.keys_pending,
                };
                let mut result = CheckResult {
                    snapshot: Some(snapshot),
                    duration_ms: first.duration_ms + again.duration_ms,
                    ..CheckResult::of(&env.checks[i])
                };
                judge::judge(&env.checks[i], rows, again.total.or(first.total), &mut result);
                results[i] = result;
            }
        }
    }
}

impl DatabaseResult {
    /// Adds a snapshot; its number.
    fn add(&mut self, snapshot: Snapshot) -> usize {
        self.snapshots.push(snapshot);
        self.snapshots.len() - 1
    }

    fn note_long_snapshots(&mut self) {
        for snapshot in &self.snapshots {
            let held = Duration::from_secs((snapshot.held_ms / 1e3) as u64);
            if held >= HELD_LONG {
                let held = humantime::format_duration(held);
                let age = snapshot
                    .xmin_age
                    .map_or(String::new(), |age| format!(", {age} transactions began meanwhile"));
                self.notes.push(format!(
                    "{}: a snapshot was held for {held}{age}; for so long vacuum could remove nothing that died since",
                    self.name
                ));
            }
        }
    }
}
