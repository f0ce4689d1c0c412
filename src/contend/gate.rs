//! Gates: what holds sessions so that they strike together.
//!
//! The keeper works in waves. It waits until all sessions that can come have parked before their next step, closes the gate, and
//! lets them go. When the server shows that each of them waits (at the gate, or behind a row lock of another one) or has
//! already been answered, it opens the gate. After a deadline it is opened anyway, and the wave says how many were held.
//!
//! - **start**: an advisory lock. Each session sends `pg_advisory_xact_lock_shared` with its step behind it in the same
//!   pipeline, so no client round trip lies between the release and the call.
//! - **write**: `LOCK TABLE ... IN SHARE MODE` on the tables that the steps write. It lets every session read and take row
//!   locks, and stops its first write (lock conflicts: PostgreSQL documentation, 13.3.1).
//! - **commit**: the write gate, and behind it a second one that lets nobody commit ([`CommitGate`]). It is opened when
//!   every session stands at its commit or behind a lock of another one.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::board::{Board, Cohort, Wave};
use super::commit_gate::{CommitGate, Held};
use crate::postgres::{Connection, explain, interruptible};
use crate::scenario::Gate;
use crate::stop::Stop;

/// The gate is opened when nobody new has come for so long ...
const IDLE_MAX: Duration = Duration::from_secs(5);
/// ... and after so long in any case.
const CLOSED_MAX: Duration = Duration::from_secs(60);
/// How often the server is asked who waits.
const POLL: Duration = Duration::from_millis(2);
/// How long other users of the tables may keep the write gate from closing.
const LOCK_TIMEOUT: &str = "10s";

/// What became of a wave.
#[derive(Clone, Debug)]
pub(crate) struct WaveRecord {
    pub(crate) gate: Gate,
    /// Sessions let go.
    pub(crate) sessions: usize,
    /// Sessions that waited when the gate was opened.
    pub(crate) held: usize,
    /// Of those, sessions behind a lock of another one.
    pub(crate) behind_others: usize,
    /// The same two, when a commit gate was opened.
    pub(crate) at_commit: Option<(usize, usize)>,
    /// When it was closed.
    pub(crate) closed: Instant,
    /// When it was opened.
    pub(crate) opened: Instant,
    /// Whether it was opened by the deadline.
    pub(crate) deadline: bool,
}

#[derive(Debug, Default)]
struct Arrival {
    held: usize,
    behind_others: usize,
    deadline: bool,
}

/// Holds the connection that closes and opens the gates.
#[derive(Debug)]
pub(crate) struct Keeper {
    control: Connection,
    /// The keeper's process, behind which waits are arranged.
    pub(crate) pid: i32,
    waiting: Statement,
    pub(crate) kind: Gate,
    lock_tables: String,
    commit_gate: Option<CommitGate>,
    /// The start gate's advisory lock.
    pub(crate) start_key: i64,
}

impl Keeper {
    pub(crate) async fn new(
        control: Connection,
        kind: Gate,
        tables: &[String],
        commit_gate: Option<CommitGate>,
    ) -> Result<Keeper, tokio_postgres::Error> {
        let pid = control.pid().await?;
        let waiting = control
            .prepare(
                "select pid, bool_or(behind) from ( \
                   select pid, locktype <> all ($2) as behind from pg_catalog.pg_locks where not granted \
                   and locktype in ('relation', 'tuple', 'transactionid', 'advisory', 'object') \
                   union all \
                   select pid, false from pg_catalog.pg_stat_get_activity(null) where wait_event = 'SyncRep' \
                 ) waiting where pid = any($1) group by pid",
            )
            .await?;
        Ok(Keeper {
            control,
            waiting,
            kind,
            lock_tables: format!(
                "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; LOCK TABLE {} IN SHARE MODE",
                tables.join(", ")
            ),
            // its own lock for each run on a server: the upper half says db-race, the lower half who
            commit_gate,
            start_key: (0xdb_5ace << 32) | i64::from(pid),
            pid,
        })
    }

    /// Keeps the gate until all gated sessions are done.
    ///
    /// # Errors
    /// The server's message when the gate can't be closed or the control connection is lost.
    pub(crate) async fn keep(&self, board: &Board, stop: &Stop) -> Result<Vec<WaveRecord>, String> {
        let mut waves = Vec::new();
        let result = loop {
            let cohort = tokio::select! {
                cohort = board.cohort() => cohort,
                () = stop.requested() => None,
            };
            let Some(cohort) = cohort else { break Ok(()) };
            let seats = cohort.seats.clone();
            let held = match self.close(stop).await {
                Ok(held) => held,
                Err(_) if stop.is_requested() => break Ok(()),
                Err(error) => {
                    drop(cohort);
                    let hint = match error.code() {
                        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => "; grant UPDATE on it, or race with --gate start",
                        Some(&SqlState::LOCK_NOT_AVAILABLE) => "; others are writing to the tables all the time",
                        _ => "",
                    };
                    break Err(explain(&error) + hint);
                }
            };
            match self.wave(board, stop, cohort, seats, held).await {
                Ok(wave) => waves.push(wave),
                Err(error) => break Err(explain(&error)),
            }
        };
        self.let_all_go(board).await;
        result.map(|()| waves)
    }

    /// Lets a cohort go, and opens the gates that are closed, one after the other.
    async fn wave(
        &self,
        board: &Board,
        stop: &Stop,
        cohort: Cohort,
        seats: Vec<usize>,
        held: Option<Held>,
    ) -> Result<WaveRecord, tokio_postgres::Error> {
        let closed = Instant::now();
        let wave = Arc::new(Wave {
            gate: Some(self.kind),
            opened: OnceLock::new(),
        });
        cohort.release(&wave);
        // what a session waits for at the gate itself
        let own: &[&str] = match self.kind {
            Gate::Write | Gate::Commit => &["relation"],
            Gate::Start | Gate::None => &["advisory"],
        };
        let arrival = self.arrival(board, &seats, own, stop).await;
        if held.is_none() {
            let _ = wave.opened.set(Instant::now());
        }
        let mut opened = self.open().await;
        let mut at_commit = None;
        if let (Some(gate), Some(held)) = (&self.commit_gate, held) {
            let arrival = self.arrival(board, &seats, &[], stop).await;
            let _ = wave.opened.set(Instant::now());
            opened = opened.and(gate.open(&self.control, held).await);
            at_commit = Some(arrival?);
        }
        opened?;
        let arrival = arrival?;
        Ok(WaveRecord {
            gate: self.kind,
            sessions: seats.len(),
            held: arrival.held,
            behind_others: arrival.behind_others,
            at_commit: at_commit.as_ref().map(|a| (a.held, a.behind_others)),
            closed,
            opened: wave.opened.get().copied().unwrap_or(closed),
            deadline: arrival.deadline || at_commit.is_some_and(|a| a.deadline),
        })
    }

    async fn close(&self, stop: &Stop) -> Result<Option<Held>, tokio_postgres::Error> {
        let held = match &self.commit_gate {
            Some(gate) => gate.close(&self.control).await?,
            None => None,
        };
        match self.kind {
            Gate::Write | Gate::Commit => {
                // others who write to the tables may hold it up
                let locked = self.control.batch_execute(&self.lock_tables);
                let locked = interruptible(&self.control, stop, Duration::ZERO, locked).await;
                if let Err(error) = locked {
                    let _ = self.control.batch_execute("ROLLBACK").await;
                    if let (Some(gate), Some(held)) = (&self.commit_gate, held) {
                        gate.open(&self.control, held).await?;
                    }
                    return Err(error);
                }
            }
            Gate::Start => {
                let sql = format!("select pg_advisory_lock({})", self.start_key);
                self.control.batch_execute(&sql).await?;
            }
            Gate::None => {}
        }
        Ok(held)
    }

    /// Opens the first gate.
    async fn open(&self) -> Result<(), tokio_postgres::Error> {
        match self.kind {
            Gate::Write | Gate::Commit => self.control.batch_execute("COMMIT").await,
            Gate::Start => {
                let sql = format!("select pg_advisory_unlock({})", self.start_key);
                self.control.batch_execute(&sql).await
            }
            Gate::None => Ok(()),
        }
    }

    /// Waits until each session waits in the server or was answered.
    async fn arrival(
        &self,
        board: &Board,
        seats: &[usize],
        own: &[&str],
        stop: &Stop,
    ) -> Result<Arrival, tokio_postgres::Error> {
        let latest = Instant::now() + CLOSED_MAX;
        let mut deadline = Instant::now() + IDLE_MAX;
        let mut there_before = 0;
        loop {
            let (coming, unanswered) = board.arrival(seats);
            let mut arrival = Arrival::default();
            if coming == 0 && unanswered.is_empty() {
                return Ok(arrival);
            }
            for row in self.control.query(&self.waiting, &[&unanswered, &own]).await? {
                arrival.held += 1;
                arrival.behind_others += usize::from(row.get::<_, bool>(1));
            }
            if coming == 0 && arrival.held == unanswered.len() {
                return Ok(arrival);
            }
            let there = seats.len() - coming - unanswered.len() + arrival.held;
            if there > there_before {
                there_before = there;
                deadline = latest.min(Instant::now() + IDLE_MAX);
            }
            if Instant::now() >= deadline || stop.is_requested() {
                arrival.deadline = !stop.is_requested();
                return Ok(arrival);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// After the last wave, or when the race is stopped: nobody stays parked.
    async fn let_all_go(&self, board: &Board) {
        let wave = Arc::new(Wave {
            gate: None,
            opened: OnceLock::new(),
        });
        loop {
            board.take_parked().release(&wave);
            if board.all_done() {
                return;
            }
            board.changed().await;
        }
    }
}
