//! What a run has to say.

use serde::Serialize;

use super::Times;
use crate::outcome::Outcomes;
use crate::postgres::ServerFacts;
use crate::system::BugKind;
use crate::verdict::Verdict;
use crate::verify::CheckResult;
use crate::watch::{Deadlock, LockWaits};

/// The version of the JSON form.
pub const SCHEMA: &str = "db-race/report/1";

/// Everything a command found, and what it makes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The version of db-race.
    pub version: &'static str,
    /// `contend` or `verify`.
    pub command: &'static str,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Start of the server and installation included.
    pub duration_ms: u64,
    /// What it comes to.
    pub verdict: Verdict,
    /// Where it ran.
    pub server: ServerFacts,
    /// What was raced (`contend`).
    pub race: Option<Race>,
    /// The checks of a `verify`; those of a race are in its rounds.
    pub checks: Vec<CheckResult>,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
    /// The command that does the same again.
    pub reproduce: Option<String>,
}

/// What was raced, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Race {
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// Its file.
    pub file: String,
    /// The system that was installed.
    pub system: Option<String>,
    /// The broken twin that was installed.
    pub bug: Option<BugFacts>,
    /// Seeds every draw.
    pub seed: u64,
    /// The groups of sessions.
    pub groups: Vec<GroupFacts>,
    /// Tables that the write gate closed.
    pub gate_tables: Vec<String>,
    /// Rounds asked for.
    pub rounds_planned: u32,
    /// The columns of the keys query.
    pub key_columns: Vec<String>,
    /// Preparation, control and rounds.
    pub duration_ms: u64,
    /// The attempts of one round, one after another.
    pub control: Option<RoundResult>,
    /// The rounds.
    pub rounds: Vec<RoundResult>,
    /// Whole attempts over all rounds.
    pub attempts: Outcomes,
    /// The steps over all rounds.
    pub steps: Vec<StepResult>,
    /// All that was not accepted, by what the server said, most first.
    pub reasons: Vec<Reason>,
    /// The pool over all rounds.
    pub pool: PoolResult,
    /// Waits for locks over all rounds, by what was waited for, longest first.
    pub lock_waits: Vec<LockWaits>,
    /// Distinct deadlocks over all rounds, most frequent first.
    pub deadlocks: Vec<Deadlock>,
    /// Deadlocks as the server's own counter has them.
    pub server_deadlocks: Option<i64>,
    /// Samples taken of the server's locks.
    pub samples: u64,
    /// Time they took, in milliseconds.
    pub samples_ms: f64,
    /// Why not all rounds were run.
    pub cut_short: Option<String>,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
}

/// A broken twin.
#[derive(Clone, Debug, Serialize)]
pub struct BugFacts {
    /// Its name.
    pub name: String,
    /// The mistake in a line.
    pub title: String,
    /// The procedure that it replaces.
    pub replaces: String,
    /// Whether it needs a race.
    pub kind: BugKind,
}

/// A group of sessions.
#[derive(Clone, Debug, Serialize)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// How many.
    pub sessions: u32,
    /// Attempts in a round.
    pub attempts: u32,
    /// What was to hold them: `none`, `start`, `write` or `commit`.
    pub gate: &'static str,
}

/// What was measured in a round.
#[derive(Clone, Debug, Serialize)]
pub struct RoundResult {
    /// From 1; 0 for the control.
    pub round: u32,
    /// Rows of the keys query.
    pub keys_found: u64,
    /// Whole attempts.
    pub attempts: Outcomes,
    /// Whole attempts by key.
    pub keys: Vec<KeyCounts>,
    /// Steps.
    pub steps: Vec<StepCounts>,
    /// Deadlocks met.
    pub deadlocks: u64,
    /// Waits for locks seen.
    pub lock_waits: u64,
    /// Attempts that got no connection in time.
    pub pool_timeouts: u64,
    /// Attempts that were in flight together with another one on the same key.
    pub overlapping: u64,
    /// Sessions let go together.
    pub waves: Vec<WaveResult>,
    /// What the checks found after it.
    pub checks: Vec<CheckResult>,
    /// The race alone, in milliseconds.
    pub duration_ms: f64,
}

/// Outcomes for a key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyCounts {
    /// The key's values.
    pub key: Vec<Option<String>>,
    /// What became of those who wanted it.
    pub outcomes: Outcomes,
    /// The sessions that were accepted, in the order of acceptance.
    pub winners: Vec<String>,
}

/// Outcomes of a step in a round.
#[derive(Clone, Debug, Serialize)]
pub struct StepCounts {
    /// The step's name.
    pub step: String,
    /// All of them.
    pub outcomes: Outcomes,
    /// By key.
    pub keys: Vec<KeyCounts>,
}

/// A step over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct StepResult {
    /// The group's name.
    pub group: String,
    /// The step's name.
    pub step: String,
    /// How it ended.
    pub outcomes: Outcomes,
    /// How long it took, from the opening of the gate.
    pub latency: Times,
    /// Of that, seen waiting for locks, in milliseconds over all.
    pub blocked_ms: f64,
    /// The rest.
    pub running_ms: f64,
}

/// What the server said of attempts that were not accepted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// The step; none when it got no connection.
    pub step: Option<String>,
    /// The outcome's name.
    pub outcome: &'static str,
    /// The SQLSTATE.
    pub sqlstate: Option<String>,
    /// The constraint.
    pub constraint: Option<String>,
    /// The first message of its kind.
    pub message: String,
    /// How many.
    pub count: u64,
}

/// What held a group of sessions, and how well.
#[derive(Clone, Debug, Serialize)]
pub struct WaveResult {
    /// `start`, `write` or `commit`.
    pub gate: &'static str,
    /// Sessions let go.
    pub sessions: usize,
    /// Sessions that stood when the gate was opened.
    pub held: usize,
    /// Of those, sessions behind a lock of another one.
    pub behind_others: usize,
    /// Sessions that stood when a commit gate was opened behind the write gate.
    pub held_at_commit: Option<usize>,
    /// Of those, sessions behind a lock of another one.
    pub behind_others_at_commit: Option<usize>,
    /// How long the gate was closed, in milliseconds.
    pub closed_ms: f64,
    /// Whether it was opened by the deadline.
    pub deadline: bool,
    /// First to last start after a start gate, by the server's clock, in microseconds.
    pub skew_us: Option<u64>,
}

/// The pool over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct PoolResult {
    /// Connections.
    pub size: u32,
    /// Sessions that draw from it.
    pub sessions: u32,
    /// How long attempts waited for a connection.
    pub wait: Times,
    /// Attempts that got none in time.
    pub timeouts: u64,
}
