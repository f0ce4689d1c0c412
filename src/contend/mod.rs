//! The race.
//!
//! ```text
//! prepare     setup, then every statement once: what is wrong with the scenario is known before anything is raced
//! dry call    each step once in a transaction that is rolled back: which tables does it write?   (write gate)
//! control     the attempts of one round, one after another: what breaks here needs no race
//! rounds      setup, race, checks; each round starts from the same data
//! ```
//!
//! Each phase is told to the caller as an [`Event`]. What was measured is a [`Race`] in the end, however the run ended.

mod acquire;
mod alarm;
mod arena;
mod arrivals;
mod attempt;
mod board;
mod call;
mod commit_gate;
mod contest;
mod control;
mod cut_short;
mod draw;
mod dry_call;
mod ending;
mod gate;
mod pool_cause;
mod pool_watch;
mod prepare;
mod pulse;
mod result;
mod session;
mod settle;
mod step;
mod tally;
mod transaction;
mod warm_up;

use std::time::{Duration, Instant};

use crate::outcome::Outcomes;
use crate::postgres::{self, ConnectError, Connection, Lending, ServerFacts, Target, explain};
use crate::report::{Race, Settled, Times};
use crate::scenario::Plan;
use crate::source::FileError;
use crate::stop::Stop;
use crate::verify::{CheckResult, VerifyError};
use crate::watch::{LockWaits, PoolSeen};
use contest::Contest;
use draw::TextRow;
use gate::WaveRecord;
use tally::Tally;

/// Connections beside the pool: control, two for the gates, sampler, and those of the checks.
const CONNECTIONS_BESIDE: u32 = 6;

/// What is going on, for a progress display.
#[derive(Clone, Debug)]
pub enum Event {
    /// Statements are prepared, connections made.
    Preparing,
    /// The attempts are run one after another.
    Control,
    /// A round begins.
    Round {
        /// Which, from 1.
        round: u32,
        /// Of how many.
        of: u32,
    },
    /// How a round goes, several times a second.
    Pulse(Box<Pulse>),
}

/// How a round goes.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Which, from 1.
    pub round: u32,
    /// Since it began.
    pub elapsed: Duration,
    /// How long its schedules last, where time decides.
    pub planned: Option<Duration>,
    /// Attempts so far.
    pub outcomes: Outcomes,
    /// Attempts planned, where their number decides.
    pub attempts_planned: Option<u64>,
    /// Attempts since the last pulse.
    pub latency: Times,
    /// Time since the last pulse.
    pub window: Duration,
    /// Sessions that wait for a lock.
    pub waiting: u64,
    /// Deadlocks so far.
    pub deadlocks: u64,
    /// Starts dropped so far.
    pub dropped: u64,
    /// Connections in use.
    pub pool_in_use: u64,
    /// Connections there may be.
    pub pool_size: u64,
    /// Sessions that wait for a connection.
    pub pool_waiting: u64,
}

/// Why nothing was raced.
#[derive(Debug, thiserror::Error)]
pub enum ContendError {
    /// The scenario's SQL doesn't fit the server.
    #[error(transparent)]
    Scenario(#[from] FileError),
    /// The server can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was lost while preparing.
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    /// A pooler on the way leaves no sessions to race.
    #[error(
        "{address} is behind a pooler that lends a server connection for one transaction at a time \
         (PgBouncer: pool_mode = transaction). A race needs sessions of its own there: their settings, their processes in \
         pg_locks and requests to cancel would be those of others. Connect to the server itself, or through a pool with \
         pool_mode = session; `verify` works here"
    )]
    Pooled {
        /// Which server.
        address: String,
    },
    /// A pooler on the way has too few connections.
    #[error(
        "the pooler at {address} gave {got} more server connections, and this run needs {needed}; lower --sessions or --pool, \
         or raise its default_pool_size"
    )]
    PoolerRoom {
        /// Which server.
        address: String,
        /// Connections it gave.
        got: u32,
        /// Connections needed.
        needed: u32,
    },
    /// The pool doesn't fit the server.
    #[error(
        "{address} has {free} connections free, and this run needs {needed}: {pool} for its pool and {beside} of its own; lower --sessions or --pool, or raise max_connections"
    )]
    TooFewConnections {
        /// Which server.
        address: String,
        /// Connections it would still accept.
        free: i64,
        /// Connections needed.
        needed: u32,
        /// Of these for the pool.
        pool: u32,
        /// Of these beside the pool.
        beside: u32,
    },
    /// A check run could not begin.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl From<crate::source::Diagnostic> for ContendError {
    fn from(diagnostic: crate::source::Diagnostic) -> Self {
        ContendError::Scenario(diagnostic.into())
    }
}

/// Everything measured: what [`result::summarise`] makes a [`Race`] of.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) key_columns: Vec<String>,
    pub(crate) gate_tables: Vec<String>,
    pub(crate) control: Option<Round>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) sampler_cost: (u64, Duration),
    /// Deadlocks as the server's own counter has them.
    pub(crate) server_deadlocks: Option<i64>,
    pub(crate) notes: Vec<String>,
    pub(crate) cut_short: Option<String>,
}

/// What was measured in a round, or in the control.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) keys: Vec<TextRow>,
    pub(crate) tally: Tally,
    pub(crate) waves: Vec<WaveRecord>,
    pub(crate) lock_waits: Vec<LockWaits>,
    pub(crate) pools: Vec<PoolSeen>,
    pub(crate) settled: Option<Settled>,
    pub(crate) checks: Vec<CheckResult>,
    pub(crate) took: Duration,
    /// Whether it was ended before its schedules were over.
    pub(crate) cut_short: bool,
}

/// Races a plan on a database; the system, if it has one, is installed already.
///
/// # Errors
/// [`ContendError`] when nothing could be raced. A run that breaks off in the middle is a [`Race`] that says so.
pub async fn run(
    plan: &Plan,
    target: &Target,
    stop: &Stop,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<(Race, ServerFacts), ContendError> {
    on_event(Event::Preparing);
    let started = Instant::now();
    let control = target.connect("control").await?;
    if !target.is_ours() {
        check_pooler(plan, target, &control).await?;
    }
    let facts = postgres::facts(&control, target)
        .await
        .map_err(|e| ContendError::Lost(explain(&e)))?;
    check_room(plan, target, &control).await?;
    let deadlocks_before = postgres::deadlocks(&control).await;

    let mut contest = Contest::prepare(plan, target, stop, control, &facts).await?;
    let mut run = Run {
        key_columns: contest.prepared.key_columns.clone(),
        gate_tables: contest.gate_tables.clone(),
        notes: std::mem::take(&mut contest.notes),
        ..Run::default()
    };
    if plan.control {
        on_event(Event::Control);
        match contest.serial_control().await {
            Ok(round) => run.control = Some(round),
            Err(error) => run.cut_short = Some(format!("the serial control broke off: {error}")),
        }
    }
    for round in 1..=plan.rounds {
        if stop.is_requested() || run.cut_short.is_some() {
            break;
        }
        on_event(Event::Round { round, of: plan.rounds });
        let (measured, broke_off) = contest.round(round, &mut run.sampler_cost, on_event).await;
        run.rounds.extend(measured);
        run.cut_short = broke_off.map(|why| format!("round {round} broke off: {why}"));
    }
    if stop.is_requested() {
        run.cut_short = Some("interrupted".into());
    }
    run.server_deadlocks = contest.close(deadlocks_before, &run).await;
    Ok((result::summarise(plan, &run, started.elapsed()), facts))
}

/// Nothing waits for a pooler that has not enough connections, or none that stay.
async fn check_pooler(plan: &Plan, target: &Target, control: &Connection) -> Result<(), ContendError> {
    let address = target.address();
    match postgres::lending(target, control).await? {
        Lending::Own => Ok(()),
        Lending::Transaction => Err(ContendError::Pooled { address }),
        Lending::Session => {
            let needed = plan.connections_at_start() + CONNECTIONS_BESIDE - 1;
            match postgres::room(target, needed).await {
                got if got < needed => Err(ContendError::PoolerRoom { address, got, needed }),
                _ => Ok(()),
            }
        }
    }
}

async fn check_room(plan: &Plan, target: &Target, control: &Connection) -> Result<(), ContendError> {
    let free = postgres::free_connections(control)
        .await
        .map_err(|e| ContendError::Lost(explain(&e)))?;
    let pool = plan.connections_at_start();
    // the control connection is one of ours, and open already
    let needed = pool + CONNECTIONS_BESIDE - 1;
    if free < i64::from(needed) {
        return Err(ContendError::TooFewConnections {
            address: target.address(),
            free,
            needed,
            pool,
            beside: CONNECTIONS_BESIDE - 1,
        });
    }
    Ok(())
}
