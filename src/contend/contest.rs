//! A plan on a server: its connections, its serial control and its rounds.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_postgres::RecyclingMethod;
use futures_util::future;
use tokio::task::JoinSet;

use super::arena::Arena;
use super::board::Board;
use super::commit_gate::CommitGate;
use super::control::one_after_another;
use super::draw::TextRow;
use super::gate::Keeper;
use super::pool_watch::PoolWatch;
use super::prepare::{self, Prepared};
use super::pulse::pulses;
use super::session::Session;
use super::tally::Tally;
use super::warm_up::warm_up;
use super::{ContendError, Event, Round, Run, dry_call, settle};
use crate::postgres::pool::{self, Pool};
use crate::postgres::{self, Connection, Notices, ServerFacts, Target, explain, interruptible};
use crate::report::Settled;
use crate::scenario::{Gate, Plan, Recycling, Schedule};
use crate::stop::Stop;
use crate::verify::{self, CheckResult};
use crate::watch::{Deadlock, Evidence, LockWatch, Sampler};

/// How long statements in flight may go on after a stop was asked for.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(1);

/// A plan on a server, with its connections.
pub(super) struct Contest<'a> {
    pub(super) plan: &'a Plan,
    pub(super) target: &'a Target,
    pub(super) stop: &'a Stop,
    pub(super) control: Connection,
    /// The same, for the tasks of sessions.
    shared_plan: Arc<Plan>,
    pub(super) prepared: Arc<Prepared>,
    pools: Vec<Pool>,
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
        // any of it may wait for somebody's lock
        let asked = async {
            prepare::setup(&control, plan).await?;
            let prepared = prepare::prepare(&control, plan).await?;
            Ok((prepared, prepare::gate_tables(&control, plan).await?))
        };
        let asked: Result<_, ContendError> = interruptible(&control, stop, Duration::ZERO, asked).await;
        let (prepared, mut gate_tables) = asked?;
        let mut notes = Vec::new();
        let gates = || plan.groups.iter().map(|g| g.gate);
        if gates().any(Gate::closes_tables) && gate_tables.is_empty() {
            let called = async {
                let keys = prepare::keys(&control, plan).await?;
                let written = dry_call::written_tables(&control, plan, &prepared, &keys, &mut notes).await;
                written.map_err(lost)
            };
            gate_tables = interruptible(&control, stop, Duration::ZERO, called).await?;
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
        let notices = match plan.sessions() {
            // who is alone survives no deadlock that could be shown
            0 | 1 => Notices::default(),
            _ => Notices::probe(&control, facts.deadlock_timeout()).await,
        };
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
            let pool = Pool::new(target, &options, &notices)?;
            if !settings.on_demand && plan.sessions_of(i) > 0 {
                warm_up(plan, i, &prepared, &pool, stop).await?;
            }
            pools.push(pool);
        }
        Ok(Contest {
            plan,
            target,
            stop,
            control,
            shared_plan: Arc::new(plan.clone()),
            prepared: Arc::new(prepared),
            pools,
            keeper,
            sampler,
            notices,
            deadlock_timeout: facts.deadlock_timeout(),
            gate_tables,
            notes,
        })
    }

    fn arena(&self, board: Board, keys: Vec<TextRow>, round: u32) -> Arena {
        let groups = || self.plan.groups.iter();
        Arena {
            plan: Arc::clone(&self.shared_plan),
            prepared: Arc::clone(&self.prepared),
            pools: self.pools.clone(),
            board,
            tally: Mutex::new(Tally::new(self.plan, keys.len())),
            keys,
            round,
            began: Instant::now(),
            start_key: self.keeper.as_ref().map_or(0, |k| k.start_key),
            gate: None,
            stop: Stop::default(),
            locks: Arc::default(),
            timeline: Mutex::default(),
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
        interruptible(&self.control, self.stop, Duration::ZERO, ready).await
    }

    fn board(&self, seats: &[Chair], gated: impl Fn(usize) -> bool) -> Board {
        let connections = self.pools.iter().map(Pool::capacity).sum();
        Board::new(seats.iter().map(|s| (s.group, gated(s.group))), connections)
    }

    /// The attempts of one round, one after another, with no gate.
    pub(super) async fn serial_control(&self) -> Result<Round, ContendError> {
        let keys = self.fresh_start().await?;
        let seats = seats(self.plan);
        let board = self.board(&seats, |_| false);
        let arena = self.arena(board, keys, 0);
        tokio::select! {
            () = one_after_another(&arena, &seats) => {}
            never = self.end_early(&arena) => match never {},
        }
        let took = arena.began.elapsed();
        let cut_short = arena.stop.is_requested();
        let mut tally = std::mem::take(&mut *arena.tally());
        let settled = self.settle(&arena.keys, &mut tally).await;
        Ok(Round {
            number: 0,
            keys: arena.keys.clone(),
            tally,
            settled,
            checks: self.checks().await?,
            took,
            cut_short,
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
        let seats = seats(self.plan);
        let kept = self.keeper.is_some();
        let board = self.board(&seats, |group| kept && self.plan.groups[group].gate != Gate::None);
        let mut arena = self.arena(board, keys, number);
        arena.gate = self.keeper.as_ref().map(|k| k.kind);
        let arena = Arc::new(arena);

        // a task each: one that is woken wakes no other
        let mut sessions = JoinSet::new();
        for (i, seat) in seats.iter().enumerate() {
            let (arena, seat) = (Arc::clone(&arena), *seat);
            sessions.spawn(async move { Session::new(&arena, i, seat).run().await });
        }
        let sessions = async {
            while let Some(ended) = sessions.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        };
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
        let meets = |pids: &HashSet<i32>| arena.meets(pids);
        let pools = PoolWatch::new(self.pools.len());
        let (_, waves, _) = tokio::select! {
            raced = future::join3(sessions, kept, arrivals) => raced,
            never = self.watch(&arena.locks, &meets) => match never {},
            never = pools.watch(&arena, &self.control) => match never {},
            never = self.end_early(&arena) => match never {},
            never = self.abort_when_hopeless(&arena, &mut aborted) => match never {},
            never = pulses(&arena, on_event) => match never {},
        };
        let took = arena.began.elapsed();
        let cut_short = arena.stop.is_requested();
        let (waves, mut broke_off) = match waves {
            Ok(waves) => (waves, None),
            Err(error) => (Vec::new(), Some(format!("the gate could not be kept: {error}"))),
        };
        if self.control.is_closed() {
            broke_off = Some("the connection to the server was lost".into());
        }
        let closed = waves.iter().map(|w| (w.closed, w.opened)).collect();
        arena.locks.set_arranged(self.keeper.as_ref().map(|k| k.pid), closed);
        let lock_waits = arena.locks.lock_waits(&arena.timeline());
        let (samples, time) = arena.locks.cost();
        *cost = (cost.0 + samples, cost.1 + time);
        let mut tally = std::mem::take(&mut *arena.tally());
        self.explain(&arena, &mut tally.deadlocks).await;
        let settled = self.settle(&arena.keys, &mut tally).await;
        let checks = match self.checks().await {
            Ok(checks) => checks,
            Err(error) => {
                broke_off = broke_off.or(Some(error.to_string()));
                Vec::new()
            }
        };
        let round = Round {
            number,
            keys: arena.keys.clone(),
            tally,
            waves,
            lock_waits,
            pools: pools.seen(),
            settled,
            checks,
            took,
            cut_short,
        };
        (Some(round), broke_off.or(aborted))
    }

    async fn watch(&self, locks: &LockWatch, meets: &(dyn Fn(&HashSet<i32>) + Sync)) -> Infallible {
        match self.plan.watch {
            true => self.sampler.watch(locks, meets).await,
            false => future::pending().await,
        }
    }

    /// Adds to the deadlocks of a round what only others than their victims knew.
    async fn explain(&self, arena: &Arena, deadlocks: &mut [Deadlock]) {
        let tables: Vec<u32> = deadlocks.iter().flat_map(Deadlock::tables).collect();
        let tables = self.sampler.names(&tables).await;
        let timeline = arena.timeline();
        let evidence = Evidence {
            tables: &tables,
            locks: &arena.locks,
            timeline: &timeline,
            notices: &self.notices,
            deadlock_timeout: self.deadlock_timeout,
        };
        deadlocks.iter_mut().for_each(|deadlock| deadlock.explain(evidence));
    }

    /// What the sessions were told against what is stored.
    async fn settle(&self, keys: &[TextRow], tally: &mut Tally) -> Option<Settled> {
        let settled = settle::settle(&self.control, self.plan, &self.prepared, keys, tally);
        interruptible(&self.control, self.stop, STOP_GRACE, settled).await
    }

    async fn checks(&self) -> Result<Vec<CheckResult>, ContendError> {
        if self.plan.checks.is_empty() {
            return Ok(Vec::new());
        }
        let options = verify::Options {
            settled: true,
            ..verify::Options::default()
        };
        let looked = verify::run(self.target, &self.plan.checks, &options, self.stop).await?;
        Ok(looked.checks)
    }

    /// Ends the connections; the server's deadlock counter when it has caught up, or has had time to.
    pub(super) async fn close(self, before: Option<i64>, run: &Run) -> Option<i64> {
        let met: i64 = run.rounds.iter().map(|r| r.tally.deadlocks.len() as i64).sum();
        self.pools.iter().for_each(Pool::close);
        tokio::select! {
            counted = postgres::deadlocks_since(&self.control, before?, met) => counted,
            () = self.stop.insisted() => None,
        }
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
