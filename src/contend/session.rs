//! A racing session: its attempts, one after another.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future;
use tokio_postgres::types::ToSql;

use super::board::{Activity, Board};
use super::call::call;
use super::contest::Chair;
use super::draw::{TextRow, Ticket, draw, values};
use super::ending::Ending;
use super::prepare::Prepared;
use crate::outcome::Outcome;
use crate::postgres::pool::{AcquireError, Lease, Pool};
use crate::scenario::{Gate, Pick, Plan, Schedule};
use crate::stop::Stop;
use crate::watch::Deadlock;

/// Returns when the lock is had: the release, and the moment as the server sees it.
const START: &str = "select pg_catalog.pg_advisory_xact_lock_shared($1), pg_catalog.clock_timestamp()";

/// All that the sessions of a round share.
pub(crate) struct Arena<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) prepared: &'a Prepared,
    pub(crate) pool: &'a Pool,
    pub(crate) board: Board,
    pub(crate) keys: Vec<TextRow>,
    pub(crate) round: u32,
    pub(crate) start_key: i64,
    /// The gate that is kept; none in the control.
    pub(crate) gate: Option<Gate>,
    pub(crate) stop: &'a Stop,
    pub(crate) deadlocks: Mutex<Vec<Deadlock>>,
    /// By group: attempts drawn from a shared schedule.
    pub(crate) drawn: Vec<AtomicU32>,
}

/// One pass through the steps.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) group: usize,
    pub(crate) ticket: Ticket,
    /// Index of the key's row.
    pub(crate) key: Option<usize>,
    /// How long it waited for a connection.
    pub(crate) pool_wait: Duration,
    /// Why it got none.
    pub(crate) refused: Option<Ending>,
    /// Whether that was because none was free.
    pub(crate) pool_timeout: bool,
    pub(crate) steps: Vec<StepRun>,
}

/// One statement of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct StepRun {
    /// Sent, or let go by the gate if that was later: latency counts from here.
    pub(crate) from: Instant,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// The server's clock when the start gate let it go.
    pub(crate) released: Option<SystemTime>,
    /// The server's process.
    pub(crate) pid: i32,
    /// How long of it the server was seen waiting for a lock; known when the round is over.
    pub(crate) blocked: Duration,
    pub(crate) ending: Ending,
}

impl Attempt {
    /// How the attempt ended: accepted when all its steps were.
    pub(crate) fn outcome(&self) -> Outcome {
        self.refused
            .iter()
            .chain(self.steps.iter().map(|s| &s.ending))
            .map(Ending::outcome)
            .find(|o| *o != Outcome::Accepted)
            .unwrap_or(Outcome::Accepted)
    }

    /// When it had statements in flight.
    pub(crate) fn in_flight(&self) -> Option<(Instant, Instant)> {
        Some((self.steps.first()?.sent, self.steps.last()?.ended))
    }
}

/// Runs a session's attempts until its schedule is done or the run is stopped.
pub(crate) async fn run(arena: &Arena<'_>, seat: usize, chair: Chair) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for iteration in 1.. {
        if arena.stop.is_requested() {
            break;
        }
        match one(arena, seat, chair, iteration).await {
            Some(attempt) => attempts.push(attempt),
            None => break,
        }
    }
    arena.board.done(seat);
    attempts
}

/// A session's next attempt; none when its schedule has no more, or the race was stopped before it did anything.
pub(crate) async fn one(arena: &Arena<'_>, seat: usize, chair: Chair, iteration: u32) -> Option<Attempt> {
    let more = match arena.plan.groups[chair.group].schedule {
        Schedule::PerSession { iterations } => iteration <= iterations,
        Schedule::Shared { iterations } => arena.drawn[chair.group].fetch_add(1, Ordering::Relaxed) < iterations,
    };
    if !more {
        return None;
    }
    let ticket = Ticket {
        round: arena.round,
        session: chair.session,
        number: chair.number,
        iteration,
    };
    let attempt = attempt(arena, seat, chair.group, ticket).await;
    arena.board.idle(seat);
    attempt
}

async fn attempt(arena: &Arena<'_>, seat: usize, group: usize, ticket: Ticket) -> Option<Attempt> {
    let plan = arena.plan;
    let pick = plan.keys.as_ref().map_or(Pick::Hot, |k| k.pick);
    let drawn = draw(plan.seed, ticket, arena.keys.len(), pick, &plan.params);
    arena.board.queued(seat);
    let queued = Instant::now();
    let lease = arena.pool.acquire().await;
    let mut attempt = Attempt {
        group,
        ticket,
        key: drawn.key,
        pool_wait: queued.elapsed(),
        refused: None,
        pool_timeout: false,
        steps: Vec::new(),
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => {
            attempt.pool_timeout = matches!(error, AcquireError::Timeout(_));
            attempt.refused = Some(Ending::local(Outcome::Refused, error.to_string()));
            return Some(attempt);
        }
    };
    if arena.stop.is_requested() {
        return None;
    }
    let mut results: Vec<Option<TextRow>> = Vec::new();
    for (i, step) in plan.groups[group].steps.iter().enumerate() {
        let origins = &arena.prepared.origins[group][i];
        let values = values(ticket, &drawn, &arena.keys, &results, origins);
        let run = match values {
            Ok(values) => run_step(arena, seat, group, i, &lease, values).await,
            Err(from) => {
                let earlier = &plan.groups[group].steps[from].name;
                let message = format!("`{}` needs a result of `{earlier}`, which returned no row", step.name);
                Some((StepRun::unsent(Ending::local(Outcome::Error, message)), None))
            }
        };
        let Some((run, row)) = run else {
            return (!attempt.steps.is_empty()).then_some(attempt);
        };
        let accepted = run.ending.outcome() == Outcome::Accepted;
        attempt.steps.push(run);
        results.push(row);
        if !accepted {
            break;
        }
    }
    if attempt.outcome() == Outcome::InDoubt {
        lease.discard();
    }
    Some(attempt)
}

impl StepRun {
    fn unsent(ending: Ending) -> StepRun {
        let now = Instant::now();
        StepRun {
            from: now,
            sent: now,
            ended: now,
            released: None,
            pid: 0,
            blocked: Duration::ZERO,
            ending,
        }
    }
}

/// Waits for the gate and runs a step; none when the race is being stopped.
async fn run_step(
    arena: &Arena<'_>,
    seat: usize,
    group: usize,
    index: usize,
    lease: &Lease,
    values: TextRow,
) -> Option<(StepRun, Option<TextRow>)> {
    let columns = &arena.prepared.columns[group][index];
    let group = &arena.plan.groups[group];
    let step = &group.steps[index];
    // a group without a gate has none, and a gated one has the race's
    let gate = arena.gate.filter(|_| group.gate != Gate::None);
    let statement = match lease.prepare_cached(&step.statement.sql).await {
        Ok(statement) => statement,
        Err(error) => return Some((StepRun::unsent(Ending::of(&error, &step.reject)), None)),
    };
    let start = match gate {
        Some(Gate::Start) => lease.prepare_cached(START).await.ok(),
        _ => None,
    };
    let wave = if gate.is_none() {
        arena.board.released(seat);
        None
    } else {
        let wave = arena.board.park(seat).await.ok()?;
        wave.gate?;
        Some(wave)
    };
    let sent = Instant::now();
    arena.board.begin(
        seat,
        Activity {
            pid: lease.pid,
            step: index,
            values: values.clone(),
            started: sent,
            ended: None,
        },
    );
    let call = call(lease, &statement, &values, step, wave.as_deref());
    let (released, answer) = match start {
        None => (None, call.await),
        Some(start) => {
            let key: &(dyn ToSql + Sync) = &arena.start_key;
            let released = async {
                let row = lease.query_one(&start, &[key]).await.ok()?;
                row.try_get::<_, SystemTime>(1).ok()
            };
            // join polls the first one first, so the call follows the lock in the same pipeline
            future::join(released, call).await
        }
    };
    let ended = Instant::now();
    let (ending, row) = match answer {
        Ok(row) => (Ending::of_row(columns, row.as_ref(), &step.reject), row),
        Err(ending) => (ending, None),
    };
    if ending.is_deadlock() {
        let deadlock = arena.deadlock(&ending, lease.pid, ended);
        arena
            .deadlocks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(deadlock);
    }
    arena.board.end(seat, ended);
    let opened = wave.and_then(|w| w.opened.get().copied());
    let run = StepRun {
        from: opened.filter(|o| *o > sent && *o < ended).unwrap_or(sent),
        sent,
        ended,
        released,
        pid: lease.pid,
        blocked: Duration::ZERO,
        ending,
    };
    Some((run, row))
}

impl Arena<'_> {
    /// The cycle as the victim's error and the board show it, now.
    fn deadlock(&self, ending: &Ending, victim: i32, at: Instant) -> Deadlock {
        let mut deadlock = Deadlock::read(
            ending.detail.as_deref().unwrap_or_default(),
            ending.context.as_deref(),
            victim,
        );
        deadlock.round = self.round;
        deadlock.met = Some(at);
        for member in &mut deadlock.cycle {
            self.board.read(|seats| {
                // the statement that waited has been running for a while; one that was just sent is its successor
                let waited =
                    |a: &&Activity| a.pid == member.pid && at.duration_since(a.started) >= Duration::from_millis(1);
                let found = seats.iter().find_map(|s| Some((s, s.recent.iter().find(waited)?)));
                let Some((seat, activity)) = found else { return };
                let group = &self.plan.groups[seat.group];
                let step = &group.steps[activity.step];
                member.session = Some(format!("{} {}", group.name, seat.session));
                member.step = Some(step.name.clone());
                member.statement = Some(step.statement.text.clone());
                member.parameters = step
                    .statement
                    .names
                    .iter()
                    .cloned()
                    .zip(activity.values.iter().cloned())
                    .collect();
            });
        }
        deadlock
    }
}
