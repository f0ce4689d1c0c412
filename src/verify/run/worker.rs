//! A worker: draws checks, and looks at one after another on its connection.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::Severity;

use super::board::{Board, Next, Task};
use super::case::Case;
use super::judge::without_values;
use super::limit::{Ending, within};
use super::look::{self, Look, Seen, Trouble};
use super::snapshot::{self, Worker, answered};
use super::{Env, Snapshots};
use crate::postgres::{explain, lost};
use crate::verify::Check;

/// How often a worker that has lost its connection tries to come back.
const JOINS: u32 = 20;
/// The server's own limit comes first.
const SLACK: Duration = Duration::from_secs(1);

/// What the workers of a snapshot share.
pub(super) struct Shift<'a> {
    pub(super) env: &'a Env<'a>,
    pub(super) on: &'a Snapshots<'a>,
    pub(super) board: Board,
    /// By the check's place in the run.
    pub(super) cases: Mutex<Vec<Case>>,
    /// Whether there are other workers to give the snapshot to.
    pub(super) is_shared: bool,
}

/// Why a task came to nothing.
enum Failed {
    /// For a reason of its own.
    Undecided(String),
    /// Its worker's connection is lost.
    Lost(String),
    /// A standby had to choose between the snapshot and what it replays.
    Conflict(String),
}

impl Shift<'_> {
    pub(super) fn cases(&self) -> MutexGuard<'_, Vec<Case>> {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until there is nothing left to do; gives the worker back, if its connection lives.
    pub(super) async fn work(&self, nth: usize, worker: Worker) -> Option<Worker> {
        let mut worker = Some(worker);
        let mut is_ready = false;
        let mut joins_left = JOINS;
        loop {
            let Some(mine) = worker.as_ref().filter(|w| !w.connection.is_closed()) else {
                if worker.take().is_some() {
                    self.board.lost(nth);
                }
                let Some(id) = self.board.export_wanted().await else {
                    self.board.gone();
                    return None;
                };
                match snapshot::join(self.env.target, &id).await {
                    Ok(joined) => {
                        worker = Some(joined);
                        is_ready = false;
                        self.board.joined();
                    }
                    Err(_) if joins_left == 0 => {
                        self.board.gone();
                        return None;
                    }
                    // whoever exported it may have gone since
                    Err(_) => self.board.not_exported(&id),
                }
                joins_left = joins_left.saturating_sub(1);
                continue;
            };
            let client: &Client = &mine.connection;
            let is_alive = match self.board.next(self.is_shared) {
                Next::Task(task) => {
                    let begun = if is_ready {
                        Ok(())
                    } else {
                        answered(client.batch_execute(look::SAVEPOINT)).await
                    };
                    is_ready = true;
                    match begun {
                        Ok(()) => self.one(mine, task).await,
                        Err(why) => {
                            self.lose(task, why);
                            false
                        }
                    }
                }
                Next::Export => {
                    let exported = self.export(client, is_ready).await;
                    is_ready = false;
                    match exported {
                        Ok(id) => {
                            self.board.exported(nth, id);
                            true
                        }
                        Err(_) => false,
                    }
                }
                Next::Wait => {
                    // what the last one has locked is free for others
                    let is_alive = !is_ready || answered(client.batch_execute(mine.back())).await.is_ok();
                    self.board.wait_while(|board| board.is_idle(self.is_shared)).await;
                    is_alive
                }
                Next::Nothing => {
                    if is_ready {
                        // after an error the transaction answers nothing else
                        let _ = answered(client.batch_execute(mine.back())).await;
                    }
                    return worker;
                }
            };
            if !is_alive {
                worker = None;
                self.board.lost(nth);
            }
        }
    }

    /// Not in a savepoint.
    async fn export(&self, client: &Client, is_ready: bool) -> Result<String, String> {
        if is_ready {
            answered(client.batch_execute(look::RELEASE)).await?;
        }
        snapshot::export(client).await
    }

    /// Does a task; whether the connection lives.
    async fn one(&self, worker: &Worker, task: Task) -> bool {
        let started = Instant::now();
        let check = &self.env.checks[task.check];
        if task.range.is_some() && self.cases()[task.check].is_settled(check) {
            self.cases()[task.check].parts_left -= 1;
            self.board.done(Vec::new());
            return true;
        }
        let limit = check.timeout.unwrap_or(self.env.options.timeout);
        let ending = Ending::default();
        let look = Look {
            check,
            options: self.env.options,
            taken_at: self.on.taken_at,
            range: task.range,
            may_spread: task.may_spread,
            only: self.on.only.get(&task.check).map(Vec::as_slice),
        };
        let looking = look::look(worker, &look);
        let mut over = self.board.over();
        let deadline = started + limit + SLACK;
        let seen = within(worker, self.env.target, deadline, &mut over, &ending, looking).await;
        self.cases()[task.check].took += started.elapsed();
        let (failed, is_alive) = match seen {
            Some(Ok(seen)) => {
                self.record(task, seen);
                return true;
            }
            Some(Err(Trouble::Said(why))) => (Failed::Undecided(why), true),
            Some(Err(Trouble::Server(error))) => self.explain(worker, check, &error, limit, &ending),
            None => {
                let why = format!(
                    "it does not end, although its process {} was to be terminated",
                    worker.pid
                );
                (Failed::Undecided(why), false)
            }
        };
        match failed {
            Failed::Lost(why) => self.lose(task, why),
            Failed::Conflict(why) => {
                self.cases()[task.check].conflict = Some(why);
                self.board.done(Vec::new());
            }
            Failed::Undecided(why) => {
                let why = if check.mask.is_empty() {
                    why
                } else {
                    without_values(&why)
                };
                let why = self.board.why_over().unwrap_or(why);
                self.cases()[task.check].fail(why);
                self.board.done(Vec::new());
            }
        }
        self.env.tell(self.on.database, &self.cases());
        is_alive
    }

    fn record(&self, task: Task, seen: Seen) {
        let mut ranges = Vec::new();
        {
            let mut cases = self.cases();
            let case = &mut cases[task.check];
            match seen {
                Seen::Rows { rows, total } => case.found(task.range.map_or(0, |r| r.nth), rows, total),
                Seen::Skipped(why) => case.skip(why),
                Seen::Ranges(found) => {
                    case.parts_left = found.len();
                    case.parts = found.len();
                    ranges = found
                        .into_iter()
                        .map(|range| Task::new(task.check, Some(range)))
                        .collect();
                }
            }
            self.env.tell(self.on.database, &cases);
        }
        self.board.done(ranges);
    }

    /// Its worker has lost the connection: somebody else tries it.
    fn lose(&self, task: Task, why: String) {
        let check = task.check;
        if !self.board.give_back(task, &why) {
            self.cases()[check].fail(format!("its connection was lost each time it was tried: {why}"));
        }
    }

    fn explain(
        &self,
        worker: &Worker,
        check: &Check,
        error: &tokio_postgres::Error,
        limit: Duration,
        ending: &Ending,
    ) -> (Failed, bool) {
        let why = match error.as_db_error() {
            // details have the row in them
            Some(db) if !check.mask.is_empty() => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
            _ => explain(error),
        };
        let code = error.code().map_or("", |code| code.code());
        let is_fatal = error
            .as_db_error()
            .is_some_and(|db| matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)));
        let is_lost = is_fatal || lost(error) || worker.connection.is_closed();
        let is_conflict = code == "40001" || code == "40P01" && why.contains("conflict with recovery");
        if ending.is_terminated.load(Ordering::Relaxed) {
            let limit = humantime::format_duration(limit);
            let why =
                format!("it took longer than {limit} and ignored that it was cancelled; its connection was terminated");
            return (Failed::Undecided(why), false);
        }
        if self.on.standby && (is_conflict || is_lost) && self.board.why_over().is_none() {
            return (Failed::Conflict(why), !is_lost);
        }
        if is_lost {
            return (Failed::Lost(why), false);
        }
        if code == "57014" && self.board.why_over().is_none() {
            let limit = humantime::format_duration(limit);
            return (Failed::Undecided(format!("it took longer than {limit}: {why}")), true);
        }
        (Failed::Undecided(why), true)
    }
}
