//! A plan on a server: its connections, its serial control and its rounds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::RecyclingMethod;
use futures_util::future;
use tokio_postgres::{Client, NoTls};

use super::arena::Arena;
use super::board::Board;
use super::commit_gate::CommitGate;
use super::draw::TextRow;
use super::gate::Keeper;
use super::pool_watch::PoolWatch;
use super::prepare::{self, Prepared};
use super::session::Session;
use super::tally::Tally;
use super::{ContendError, Event, Pulse, Round, Run, dry_call, result, settle};
use crate::postgres::pool::{self, AcquireError, Pool};
use crate::postgres::{self, Connection, ServerFacts, Target, explain};
use crate::scenario::{Gate, Plan, Recycling, Rule, Schedule};
use crate::stop::Stop;
use crate::verdict;
use crate::verify::{self, CheckResult};
use crate::watch::{LockWatch, Sampler};

/// Attempts of the serial control at the most.
const CONTROL_MAX: usize = 200;
/// How long statements in flight may go on after a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How soon it is noticed that the server is gone.
const LIVENESS: Duration = Duration::from_millis(100);
/// How often a round is judged by the rules that may abort it.
const JUDGE_PERIOD: Duration = Duration::from_millis(250);
/// How often a round tells how it goes.
const PULSE_PERIOD: Duration = Duration::from_millis(200);

/// A plan on a server, with its connections.
pub(super) struct Contest<'a> {
    plan: &'a Plan,
    target: &'a Target,
    stop: &'a Stop,
    control: Connection,
    pub(super) prepared: Prepared,
    pools: Vec<Pool>,
    keeper: Option<Keeper>,
    sampler: Sampler,
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
        let mut pools = Vec::new();
        for (i, settings) in plan.pools.iter().enumerate() {
            let options = pool::Options {
                size: plan.pool_size(i),
                wait: settings.wait,
                create: settings.create,
                recycling: match settings.recycling {
                    Recycling::Fast => RecyclingMethod::Fast,
                    Recycling::Verified => RecyclingMethod::Verified,
                    Recycling::Clean => RecyclingMethod::Clean,
                },
            };
            let pool = Pool::new(target, &options)?;
            if !settings.on_demand && plan.sessions_of(i) > 0 {
                warm_up(plan, i, &prepared, &pool).await?;
            }
            pools.push(pool);
        }
        Ok(Contest {
            plan,
            target,
            stop,
            control,
            prepared,
            pools,
            keeper,
            sampler,
            gate_tables,
            notes,
        })
    }

    fn arena<'b>(&'b self, board: Board, keys: Vec<TextRow>, round: u32, locks: &'b LockWatch) -> Arena<'b> {
        let groups = || self.plan.groups.iter();
        Arena {
            plan: self.plan,
            prepared: &self.prepared,
            pools: &self.pools,
            board,
            tally: Mutex::new(Tally::new(self.plan, keys.len())),
            keys,
            round,
            began: Instant::now(),
            start_key: self.keeper.as_ref().map_or(0, |k| k.start_key),
            gate: None,
            stop: Stop::default(),
            locks,
            drawn: groups().map(|_| Default::default()).collect(),
            arrivals: groups().map(|_| Default::default()).collect(),
            leaked: Mutex::default(),
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

    fn board(&self, seats: &[Chair], gated: impl Fn(usize) -> bool) -> Board {
        let connections = self.pools.iter().map(Pool::capacity).sum();
        Board::new(seats.iter().map(|s| (s.group, gated(s.group))), connections)
    }

    /// The attempts of one round, one after another, with no gate.
    pub(super) async fn serial_control(&self) -> Result<Round, ContendError> {
        let keys = self.fresh_start().await?;
        let locks = LockWatch::default();
        let seats = seats(self.plan);
        let board = self.board(&seats, |_| false);
        let arena = self.arena(board, keys, 0, &locks);
        tokio::select! {
            () = one_after_another(&arena, &seats) => {}
            never = self.end_early(&arena) => match never {},
        }
        let took = arena.began.elapsed();
        let mut tally = arena.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        let settled = settle::settle(&self.control, self.plan, &self.prepared, &arena.keys, &mut tally).await;
        Ok(Round {
            number: 0,
            keys: arena.keys,
            tally,
            settled,
            checks: self.checks().await?,
            took,
            ..Round::default()
        })
    }

    /// Setup, race, checks. A round that breaks off in the middle still gives what was measured.
    pub(super) async fn round(
        &self,
        number: u32,
        cost: &mut (u64, Duration),
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> (Option<Round>, Option<String>) {
        let keys = match self.fresh_start().await {
            Ok(keys) => keys,
            Err(error) => return (None, Some(error.to_string())),
        };
        let locks = LockWatch::default();
        let seats = seats(self.plan);
        let kept = self.keeper.is_some();
        let board = self.board(&seats, |group| kept && self.plan.groups[group].gate != Gate::None);
        let mut arena = self.arena(board, keys, number, &locks);
        arena.gate = self.keeper.as_ref().map(|k| k.kind);

        let sessions = future::join_all(
            seats
                .iter()
                .enumerate()
                .map(|(i, seat)| Session::new(&arena, i, *seat).run()),
        );
        let kept = async {
            match &self.keeper {
                Some(keeper) => keeper.keep(&arena.board, &arena.stop).await,
                None => Ok(Vec::new()),
            }
        };
        let arrivals = future::join_all(self.plan.groups.iter().enumerate().filter_map(|(i, group)| {
            let Schedule::Rate { ramp } = &group.schedule else {
                return None;
            };
            Some(arena.arrivals[i].keep(&arena, i, ramp, arena.began + group.start))
        }));
        let mut aborted = None;
        let pools = PoolWatch::new(self.pools.len());
        let (_, waves, _) = tokio::select! {
            raced = future::join3(sessions, kept, arrivals) => raced,
            never = self.sampler.watch(&locks) => match never {},
            never = pools.watch(&arena, &self.control) => match never {},
            never = self.end_early(&arena) => match never {},
            never = self.abort_when_hopeless(&arena, &mut aborted) => match never {},
            never = pulses(&arena, on_event) => match never {},
        };
        let took = arena.began.elapsed();
        let (waves, mut broke_off) = match waves {
            Ok(waves) => (waves, None),
            Err(error) => (Vec::new(), Some(format!("the gate could not be kept: {error}"))),
        };
        if self.control.is_closed() {
            broke_off = Some("the connection to the server was lost".into());
        }
        let sessions = names(self.plan, &arena.board);
        let closed: Vec<_> = waves.iter().map(|w| (w.closed, w.opened)).collect();
        let lock_waits = locks.by_relation(&sessions, self.keeper.as_ref().map(|k| k.pid), &closed);
        let (samples, time) = locks.cost();
        *cost = (cost.0 + samples, cost.1 + time);
        let mut tally = arena.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        let settled = settle::settle(&self.control, self.plan, &self.prepared, &arena.keys, &mut tally).await;
        let checks = match self.checks().await {
            Ok(checks) => checks,
            Err(error) => {
                broke_off = broke_off.or(Some(error.to_string()));
                Vec::new()
            }
        };
        let round = Round {
            number,
            keys: arena.keys,
            tally,
            waves,
            lock_waits,
            pools: pools.seen(),
            settled,
            checks,
            took,
        };
        (Some(round), broke_off.or(aborted))
    }

    /// Stops a round when the run is stopped, or the server gone; then what still runs after a while is cancelled, until
    /// nothing is left to cancel.
    async fn end_early(&self, arena: &Arena<'_>) -> Infallible {
        let gone = async {
            while !self.control.is_closed() {
                tokio::time::sleep(LIVENESS).await;
            }
        };
        tokio::select! {
            () = self.stop.requested() => {}
            () = arena.stop.requested() => {}
            () = gone => {}
        }
        arena.stop.request();
        self.cancel_stragglers(&arena.board).await
    }

    /// Judges the round now and then by the rules that may abort it.
    async fn abort_when_hopeless(&self, arena: &Arena<'_>, why: &mut Option<String>) -> Infallible {
        if self.plan.rules.iter().all(|r| r.abort.is_none()) {
            return future::pending().await;
        }
        loop {
            tokio::time::sleep(JUDGE_PERIOD).await;
            let elapsed = arena.began.elapsed();
            let due = |rule: &&Rule| rule.abort.is_some_and(|abort| abort.grace <= elapsed);
            let round = Round {
                number: arena.round,
                keys: arena.keys.clone(),
                tally: arena.tally().clone(),
                took: elapsed,
                ..Round::default()
            };
            let run = Run {
                key_columns: self.prepared.key_columns.clone(),
                rounds: vec![round],
                ..Run::default()
            };
            let race = result::summarise(self.plan, &run, elapsed);
            let broken = self
                .plan
                .rules
                .iter()
                .filter(due)
                .find(|rule| verdict::is_hopeless(rule, &race));
            if let Some(rule) = broken {
                *why = Some(format!("aborted by the rule `{}`", rule.text));
                arena.stop.request();
                return future::pending().await;
            }
        }
    }

    async fn checks(&self) -> Result<Vec<CheckResult>, ContendError> {
        if self.plan.checks.is_empty() {
            return Ok(Vec::new());
        }
        Ok(verify::run(self.target, &self.plan.checks, &verify::Options::default(), self.stop).await?)
    }

    /// What still runs after a while is cancelled, until nothing is left to cancel.
    async fn cancel_stragglers(&self, board: &Board) -> Infallible {
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
        let met: i64 = run.rounds.iter().map(|r| r.tally.deadlocks.len() as i64).sum();
        self.pools.iter().for_each(Pool::close);
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

/// The attempts of a round, or the first of them, in turn. Where time decides how many there are, one of each session.
async fn one_after_another(arena: &Arena<'_>, seats: &[Chair]) {
    let mut made = 0;
    let mut drawn = vec![0; arena.plan.groups.len()];
    let mut sessions: Vec<Session<'_>> = seats
        .iter()
        .enumerate()
        .map(|(i, seat)| Session::new(arena, i, *seat))
        .collect();
    for iteration in 1.. {
        let before = made;
        for session in &mut sessions {
            if made >= CONTROL_MAX || arena.stop.is_requested() {
                return;
            }
            let group = session.chair.group;
            let more = match &session.group.schedule {
                Schedule::PerSession { iterations, .. } => iteration <= *iterations,
                Schedule::Shared { iterations, .. } => drawn[group] < *iterations,
                Schedule::Constant { .. } | Schedule::Ramping { .. } | Schedule::Rate { .. } => iteration == 1,
            };
            if !more {
                continue;
            }
            drawn[group] += 1;
            made += 1;
            session.next(None, None).await;
            session.give_back();
            arena.board.idle(session.seat);
        }
        if made == before {
            break;
        }
    }
}

/// Whose the server's processes are.
fn names(plan: &Plan, board: &Board) -> HashMap<i32, String> {
    board.read(|seats| {
        let mut names: HashMap<i32, String> = HashMap::new();
        for (seat, activity) in seats.iter().flat_map(|s| s.recent.iter().map(move |a| (s, a))) {
            let name = format!("{} {}", plan.groups[seat.group].name, seat.session);
            let known = names.entry(activity.pid).or_insert_with(|| name.clone());
            if *known != name {
                *known = format!("the sessions of process {}", activity.pid);
            }
        }
        names
    })
}

/// Tells how the round goes, for ever.
async fn pulses(arena: &Arena<'_>, on_event: &mut (dyn FnMut(Event) + Send)) -> Infallible {
    let groups = &arena.plan.groups;
    let planned = |g: &crate::scenario::Group| match &g.schedule {
        Schedule::PerSession { .. } | Schedule::Shared { .. } => None,
        Schedule::Constant { duration } => Some(g.start + *duration),
        Schedule::Ramping { ramp, .. } | Schedule::Rate { ramp } => Some(g.start + ramp.duration()),
    };
    let attempts: Option<Vec<u32>> = groups.iter().map(|g| g.schedule.attempts(g.sessions)).collect();
    let mut last = arena.began;
    loop {
        tokio::time::sleep(PULSE_PERIOD).await;
        let now = Instant::now();
        let (in_use, waiting) = arena.board.read(|seats| {
            let held: usize = seats.iter().map(|s| s.holds.len() + s.leaked.len()).sum();
            (held as u64, seats.iter().filter(|s| s.is_queued()).count() as u64)
        });
        let pulse = {
            let mut tally = arena.tally();
            Pulse {
                round: arena.round,
                elapsed: arena.began.elapsed(),
                planned: groups.iter().filter_map(planned).max(),
                outcomes: tally.outcomes,
                attempts_planned: attempts.as_ref().map(|a| a.iter().map(|n| u64::from(*n)).sum()),
                latency: std::mem::take(&mut tally.window),
                window: now - last,
                waiting: arena.locks.waiting_now(),
                deadlocks: tally.deadlocks.len() as u64,
                dropped: tally.groups.iter().map(|g| g.dropped).sum(),
                pool_in_use: in_use,
                pool_size: arena.pools.iter().map(|p| p.capacity() as u64).sum(),
                pool_waiting: waiting,
            }
        };
        last = now;
        on_event(Event::Pulse(Box::new(pulse)));
    }
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

/// Opens all connections of a pool and prepares the statements of its groups on each.
async fn warm_up(plan: &Plan, index: usize, prepared: &Prepared, pool: &Pool) -> Result<(), ContendError> {
    let groups = plan.groups.iter().enumerate().filter(|(_, g)| g.pool == index);
    let steps: Vec<(usize, &str)> = groups
        .flat_map(|(g, group)| {
            let numbers = prepared.first_statement[g]..;
            numbers.zip(group.steps.iter().map(|s| s.statement.sql.as_str()))
        })
        .collect();
    let mut leases = Vec::new();
    for lease in future::join_all((0..pool.capacity()).map(|_| pool.acquire())).await {
        leases.push(lease.map_err(|error| match error {
            AcquireError::Connect(error) | AcquireError::Full(error) => ContendError::Connect(error),
            timeout => ContendError::Lost(timeout.to_string()),
        })?);
    }
    let prepared = leases
        .iter()
        .map(|lease| future::join_all(steps.iter().map(|(number, sql)| lease.statement(*number, sql))));
    for result in future::join_all(prepared).await.into_iter().flatten() {
        result.map_err(|error| ContendError::Lost(explain(&error)))?;
    }
    Ok(())
}
