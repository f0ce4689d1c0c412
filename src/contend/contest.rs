//! A plan on a server: its connections, its serial control and its rounds.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future;
use tokio_postgres::{Client, NoTls};

use super::board::Board;
use super::commit_gate::CommitGate;
use super::draw::TextRow;
use super::gate::Keeper;
use super::prepare::{self, Prepared};
use super::session::{self, Arena, Attempt};
use super::{ContendError, Round, Run, dry_call};
use crate::postgres::pool::{AcquireError, Pool};
use crate::postgres::{self, Connection, Notices, ServerFacts, Target, explain};
use crate::scenario::{Gate, Plan};
use crate::stop::Stop;
use crate::verify::{self, CheckResult};
use crate::watch::{Deadlock, Evidence, LockWatch, Sampler, Stretch, Timeline};

/// Attempts of the serial control at the most.
const CONTROL_MAX: usize = 200;
/// How long statements in flight may go on after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A plan on a server, with its connections.
pub(super) struct Contest<'a> {
    plan: &'a Plan,
    target: &'a Target,
    stop: &'a Stop,
    control: Connection,
    pub(super) prepared: Prepared,
    pool: Pool,
    keeper: Option<Keeper>,
    sampler: Sampler,
    notices: Notices,
    deadlock_timeout: Duration,
    pub(super) gate_tables: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl<'a> Contest<'a> {
    pub(super) async fn prepare(
        plan: &'a Plan,
        target: &'a Target,
        stop: &'a Stop,
        control: Connection,
        facts: &ServerFacts,
    ) -> Result<Contest<'a>, ContendError> {
        let lost = |error: tokio_postgres::Error| ContendError::Lost(explain(&error));
        interruptible(&control, stop, prepare::setup(&control, plan)).await?;
        let prepared = prepare::prepare(&control, plan).await?;
        let mut notes = Vec::new();
        let mut gate_tables = prepare::gate_tables(&control, plan).await?;
        let gates = || plan.groups.iter().map(|g| g.gate);
        if gates().any(Gate::closes_tables) && gate_tables.is_empty() {
            let keys = interruptible(&control, stop, prepare::keys(&control, plan)).await?;
            let called = dry_call::written_tables(&control, plan, &prepared, &keys, &mut notes);
            gate_tables = interruptible(&control, stop, called).await.map_err(lost)?;
        }
        let keeper = match choose_gate(gates(), target, &gate_tables, &mut notes) {
            Some(kind) => {
                let commit_gate = match kind {
                    Gate::Commit => Some(CommitGate::new(target.connect("gate").await?).await.map_err(lost)?),
                    _ => None,
                };
                let control = target.connect("gate").await?;
                let keeper = Keeper::new(control, kind, &gate_tables, commit_gate).await;
                Some(keeper.map_err(lost)?)
            }
            None => None,
        };
        let watcher = target.connect("watch").await?;
        let sampler = Sampler::new(watcher, facts.version_number, facts.deadlock_timeout())
            .await
            .map_err(lost)?;
        let notices = Notices::probe(&control, facts.deadlock_timeout()).await;
        let pool = Pool::new(target, plan.pool_size(), plan.pool.wait, &notices)?;
        warm_up(plan, &pool).await?;
        Ok(Contest {
            plan,
            target,
            stop,
            control,
            prepared,
            pool,
            keeper,
            sampler,
            notices,
            deadlock_timeout: facts.deadlock_timeout(),
            gate_tables,
            notes,
        })
    }

    fn arena(&self, board: Board, keys: Vec<TextRow>, round: u32) -> Arena<'_> {
        Arena {
            plan: self.plan,
            prepared: &self.prepared,
            pool: &self.pool,
            board,
            keys,
            round,
            start_key: self.keeper.as_ref().map_or(0, |k| k.start_key),
            gate: None,
            stop: self.stop,
            deadlocks: Mutex::default(),
            drawn: self.plan.groups.iter().map(|_| Default::default()).collect(),
        }
    }

    /// Setup, and the keys as they are then.
    async fn fresh_start(&self) -> Result<Vec<TextRow>, ContendError> {
        let ready = async {
            // without a setup nothing else would notice that the server is gone
            let alive = self.control.batch_execute("").await;
            alive.map_err(|error| ContendError::Lost(explain(&error)))?;
            prepare::setup(&self.control, self.plan).await?;
            prepare::keys(&self.control, self.plan).await
        };
        interruptible(&self.control, self.stop, ready).await
    }

    /// The attempts of one round, one after another, with no gate.
    pub(super) async fn serial_control(&self) -> Result<Round, ContendError> {
        let keys = self.fresh_start().await?;
        let started = Instant::now();
        let seats = seats(self.plan);
        let board = Board::new(seats.iter().map(|s| (s.group, false)), self.pool.capacity());
        let arena = self.arena(board, keys, 0);
        let attempts = tokio::select! {
            attempts = one_after_another(&arena, &seats) => attempts,
            never = self.cancel_when_stopped(&arena.board) => match never {},
        };
        let checks = self.checks().await?;
        Ok(Round {
            number: 0,
            keys: arena.keys,
            attempts,
            checks,
            took: started.elapsed(),
            ..Round::default()
        })
    }

    /// Setup, race, checks. A round that breaks off in the middle still gives what was measured.
    pub(super) async fn round(&self, number: u32, cost: &mut (u64, Duration)) -> (Option<Round>, Option<String>) {
        let keys = match self.fresh_start().await {
            Ok(keys) => keys,
            Err(error) => return (None, Some(error.to_string())),
        };
        let started = Instant::now();
        let locks = LockWatch::default();
        let seats = seats(self.plan);
        let kept = self.keeper.is_some();
        let gated = |group: usize| kept && self.plan.groups[group].gate != Gate::None;
        let board = Board::new(seats.iter().map(|s| (s.group, gated(s.group))), self.pool.capacity());
        let mut arena = self.arena(board, keys, number);
        arena.gate = self.keeper.as_ref().map(|k| k.kind);

        let sessions = future::join_all(seats.iter().enumerate().map(|(i, seat)| session::run(&arena, i, *seat)));
        let kept = async {
            match &self.keeper {
                Some(keeper) => keeper.keep(&arena.board, self.stop).await,
                None => Ok(Vec::new()),
            }
        };
        let (attempts, waves) = tokio::select! {
            raced = future::join(sessions, kept) => raced,
            never = self.sampler.watch(&locks) => match never {},
            never = self.cancel_when_stopped(&arena.board) => match never {},
        };
        let took = started.elapsed();
        let (waves, mut broke_off) = match waves {
            Ok(waves) => (waves, None),
            Err(error) => (Vec::new(), Some(format!("the gate could not be kept: {error}"))),
        };
        let checks = match self.checks().await {
            Ok(checks) => checks,
            Err(error) => {
                broke_off = broke_off.or(Some(error.to_string()));
                Vec::new()
            }
        };
        let mut attempts: Vec<Attempt> = attempts.into_iter().flatten().collect();
        let timeline = self.timeline(&attempts);
        let closed = waves.iter().map(|w| (w.closed, w.opened)).collect();
        locks.set_arranged(self.keeper.as_ref().map(|k| k.pid), closed);
        for run in attempts.iter_mut().flat_map(|a| &mut a.steps) {
            run.blocked = locks.blocked(run.pid, run.from, run.ended);
        }
        let (samples, time) = locks.cost();
        *cost = (cost.0 + samples, cost.1 + time);
        let mut deadlocks = arena.deadlocks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tables: Vec<u32> = deadlocks.iter().flat_map(Deadlock::tables).collect();
        let tables = self.sampler.names(&tables).await;
        let evidence = Evidence {
            tables: &tables,
            locks: &locks,
            timeline: &timeline,
            notices: &self.notices,
            deadlock_timeout: self.deadlock_timeout,
        };
        deadlocks.iter_mut().for_each(|deadlock| deadlock.explain(evidence));
        let round = Round {
            number,
            keys: arena.keys,
            attempts,
            waves,
            lock_waits: locks.lock_waits(&timeline),
            deadlocks,
            checks,
            took,
        };
        (Some(round), broke_off)
    }

    /// Who ran what on which process.
    fn timeline(&self, attempts: &[Attempt]) -> Timeline {
        let mut timeline = Timeline::default();
        for attempt in attempts {
            let group = &self.plan.groups[attempt.group];
            for (step, run) in group.steps.iter().zip(&attempt.steps) {
                let stretch = Stretch {
                    session: format!("{} {}", group.name, attempt.ticket.session),
                    step: step.name.clone(),
                    from: run.sent,
                    to: run.ended,
                    context: run.ending.context.clone(),
                };
                timeline.add(run.pid, stretch);
            }
        }
        timeline
    }

    async fn checks(&self) -> Result<Vec<CheckResult>, ContendError> {
        if self.plan.checks.is_empty() {
            return Ok(Vec::new());
        }
        Ok(verify::run(self.target, &self.plan.checks, &verify::Options::default(), self.stop).await?)
    }

    /// When the run is stopped: what still runs after a while is cancelled, until nothing is left to cancel.
    async fn cancel_when_stopped(&self, board: &Board) -> Infallible {
        self.stop.requested().await;
        loop {
            tokio::time::sleep(STOP_GRACE).await;
            let busy = board.busy();
            let sql = "select pg_catalog.pg_cancel_backend(pid) from unnest($1::int4[]) pid";
            if self.control.query(sql, &[&busy]).await.is_err() {
                return future::pending().await;
            }
        }
    }

    /// Ends the connections; the server's deadlock counter when it has caught up, or has had time to.
    pub(super) async fn close(self, before: Option<i64>, run: &Run) -> Option<i64> {
        let met: i64 = run.rounds.iter().map(|r| r.deadlocks.len() as i64).sum();
        self.pool.close();
        postgres::deadlocks_since(&self.control, before?, met).await
    }
}

/// One keeper holds all gated sessions, so there is one kind of gate in a race: the strictest that was asked for and
/// that the server and the steps allow.
fn choose_gate(
    asked: impl Iterator<Item = Gate> + Clone,
    target: &Target,
    tables: &[String],
    notes: &mut Vec<String>,
) -> Option<Gate> {
    let strictest = [Gate::Commit, Gate::Write, Gate::Start];
    let kind = strictest.into_iter().find(|kind| asked.clone().any(|g| g == *kind))?;
    if kind.closes_tables() && tables.is_empty() {
        let note = match notes.pop() {
            Some(refused) => format!("{refused}; the start gate took its place"),
            None => format!(
                "the dry calls wrote to no table, so the start gate took the {} gate's place",
                kind.name()
            ),
        };
        notes.push(note);
        return Some(Gate::Start);
    }
    match kind {
        Gate::Commit if !target.is_ours() => Some(Gate::Write),
        kind => Some(kind),
    }
}

/// The attempts of a round, or the first of them, in turn.
async fn one_after_another(arena: &Arena<'_>, seats: &[Chair]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for iteration in 1.. {
        let before = attempts.len();
        for (i, seat) in seats.iter().enumerate() {
            if attempts.len() >= CONTROL_MAX || arena.stop.is_requested() {
                return attempts;
            }
            attempts.extend(session::one(arena, i, *seat, iteration).await);
        }
        if attempts.len() == before {
            break;
        }
    }
    attempts
}

/// Awaits what runs on a connection; when a stop is asked for, its statement is cancelled on the server.
async fn interruptible<T>(client: &Client, stop: &Stop, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = cancel_for_ever(client, stop) => match never {},
    }
}

async fn cancel_for_ever(client: &Client, stop: &Stop) -> Infallible {
    stop.requested().await;
    loop {
        // one that doesn't get through is sent again
        let _ = client.cancel_token().cancel_query(NoTls).await;
        tokio::time::sleep(STOP_GRACE).await;
    }
}

/// A seat of the race: which group, and which session of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chair {
    pub(super) group: usize,
    /// 1-based, over all groups.
    pub(super) session: u32,
    /// 1-based, in its group.
    pub(super) number: u32,
}

fn seats(plan: &Plan) -> Vec<Chair> {
    let mut chairs = Vec::new();
    for (group, g) in plan.groups.iter().enumerate() {
        for number in 1..=g.sessions {
            let session = chairs.len() as u32 + 1;
            chairs.push(Chair { group, session, number });
        }
    }
    chairs
}

/// Opens all connections of the pool and prepares every statement on each.
async fn warm_up(plan: &Plan, pool: &Pool) -> Result<(), ContendError> {
    let steps: Vec<&str> = plan
        .groups
        .iter()
        .flat_map(|g| &g.steps)
        .map(|s| s.statement.sql.as_str())
        .collect();
    let mut leases = Vec::new();
    for lease in future::join_all((0..pool.capacity()).map(|_| pool.acquire())).await {
        leases.push(lease.map_err(|error| match error {
            AcquireError::Connect(error) => ContendError::Connect(error),
            timeout => ContendError::Lost(timeout.to_string()),
        })?);
    }
    let prepared = leases
        .iter()
        .map(|lease| future::join_all(steps.iter().map(|sql| lease.prepare_cached(sql))));
    for result in future::join_all(prepared).await.into_iter().flatten() {
        result.map_err(|error| ContendError::Lost(explain(&error)))?;
    }
    Ok(())
}
