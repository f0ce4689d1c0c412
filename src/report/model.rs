//! What a run has to say.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Times;
use crate::audit::AuditResult;
use crate::outcome::Outcomes;
use crate::postgres::ServerFacts;
use crate::system::BugKind;
use crate::verdict::{Judged, Terms, Verdict};
use crate::verify::{CheckResult, DatabaseResult};
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
    /// `contend`, `verify` or `audit`.
    pub command: &'static str,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Start of the server and installation included.
    pub duration_ms: u64,
    /// What it comes to.
    pub verdict: Verdict,
    /// What the command's flags make of that; the forms that are red or green follow.
    #[serde(skip)]
    pub terms: Terms,
    /// Where it ran.
    pub server: ServerFacts,
    /// What was raced (`contend`).
    pub race: Option<Race>,
    /// The databases that a `verify` or an `audit` looked at.
    pub databases: Vec<DatabaseResult>,
    /// The checks of a `verify`; those of a race are in its rounds.
    pub checks: Vec<CheckResult>,
    /// What is new, still open and fixed (`audit`); the checks are then without their waived rows.
    pub audit: Option<AuditResult>,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
    /// The command that does the same again.
    pub reproduce: Option<String>,
}

impl Report {
    /// What it comes to with the command's flags, as the exit code has it.
    pub fn judged(&self) -> Judged {
        self.terms.judged(&self.verdict)
    }
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
    /// How each group fared over all rounds.
    pub group_results: Vec<GroupResult>,
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
    /// The pools over all rounds.
    pub pools: Vec<PoolResult>,
    /// What was told to sessions, and what is stored; none where no group settles.
    pub settled: Option<Settled>,
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
    /// `per-session`, `shared`, `constant`, `ramping`, `constant-rate` or `ramping-rate`.
    pub schedule: &'static str,
    /// Attempts planned in a round; none where time decides.
    pub attempts: Option<u64>,
    /// What was to hold them: `none`, `start`, `write` or `commit`.
    pub gate: &'static str,
    /// The pool it draws from.
    pub pool: String,
    /// What begins its transactions; none: each step has its own.
    pub transaction: Option<String>,
}

/// A group over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct GroupResult {
    /// The group's name.
    pub group: String,
    /// Whole attempts.
    pub outcomes: Outcomes,
    /// Whole attempts, the wait for a connection included, time at the gate not; under a rate from when they were due.
    pub latency: Times,
    /// The same, by outcome.
    pub latency_by_outcome: BTreeMap<&'static str, Times>,
    /// Attempts a second, while the rounds lasted.
    pub per_second: f64,
    /// Tries over all attempts.
    pub tries: u64,
    /// Attempts accepted at try 1, 2, ...
    pub accepted_at: Vec<u64>,
    /// Tries per accepted attempt; none when none was accepted.
    pub amplification: Option<f64>,
    /// Time spent in tries that failed and were tried again, in milliseconds.
    pub wasted_ms: f64,
    /// Sessions that made attempts, none of which was accepted, in the worst round.
    pub starved: u64,
    /// Attempts of a session that made the fewest and of one that made the most, in a round.
    pub fairness: Option<(u64, u64)>,
    /// Starts that found no free session, and attempts that were never begun.
    pub dropped: u64,
    /// Attempts that were cancelled because their schedule was over, or the run stopped.
    pub interrupted: u64,
    /// How much later than planned starts were made; under a rate.
    pub lag: Times,
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
    /// Whole attempts by group.
    pub groups: Vec<(String, Outcomes)>,
    /// Starts that found no free session, and attempts that were never begun.
    pub dropped: u64,
    /// Attempts that were cancelled because their schedule was over, or the run stopped.
    pub interrupted: u64,
    /// Tries after the first one.
    pub retries: u64,
    /// What was told to sessions, and what is stored; none where no group settles.
    pub settled: Option<Settled>,
    /// Attempts that were in flight together with another one on the same key.
    pub overlapping: u64,
    /// Sessions let go together.
    pub waves: Vec<WaveResult>,
    /// What the checks found after it.
    pub checks: Vec<CheckResult>,
    /// The race alone, in milliseconds.
    pub duration_ms: f64,
    /// Whether it was ended before its attempts were made, so that its counts are not what they would have been.
    pub cut_short: bool,
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
    /// The same, by outcome.
    pub latency_by_outcome: BTreeMap<&'static str, Times>,
    /// The same, by key, where a rule asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency_by_key: Vec<(Vec<Option<String>>, Times)>,
    /// Of that time, in milliseconds: behind locks, as far as the samples have seen it.
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
    /// Its detail.
    pub detail: Option<String>,
    /// Where it was raised: functions and their lines, innermost first.
    pub context: Option<String>,
    /// What else the server said, where nobody expected it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<&'static str, String>,
    /// How many.
    pub count: u64,
}

/// What was told to sessions, and what is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Settled {
    /// Attempts that were looked up.
    pub asked: u64,
    /// Attempts that were not: there were too many.
    pub left_out: u64,
    /// Attempts that are stored.
    pub stored: u64,
    /// Attempts that were accepted and are not stored.
    pub lost: u64,
    /// Attempts that were not accepted and are stored all the same.
    pub ghosts: u64,
    /// Attempts in doubt that are stored: they count as accepted.
    pub doubts_stored: u64,
    /// Attempts in doubt that are not stored: they count as refused.
    pub doubts_absent: u64,
    /// The first of those lost and of the ghosts, by name.
    pub examples: Vec<String>,
    /// Why not all could be looked up.
    pub problem: Option<String>,
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

/// A pool over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct PoolResult {
    /// `pool`, or its name in `[pools]`.
    pub name: String,
    /// Connections.
    pub size: u32,
    /// Sessions that draw from it.
    pub sessions: u32,
    /// How long sessions waited for a connection.
    pub wait: Times,
    /// Those that got none in time.
    pub timeouts: u64,
    /// Of these, those that held another one.
    pub nested_timeouts: u64,
    /// New connections that were not made in time.
    pub create_timeouts: u64,
    /// New connections that the server had no room for (53300).
    pub server_full: u64,
    /// New connections that failed otherwise.
    pub connect_errors: u64,
    /// Connections in use and sessions waiting, over the time of all rounds.
    pub usage: Vec<PoolPoint>,
    /// Time during which all connections were in use and somebody waited, in milliseconds.
    pub dry_ms: f64,
    /// Why it ran dry, or gave no connection, most telling first.
    pub causes: Vec<PoolCause>,
}

/// A pool at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PoolPoint {
    /// Since the first round began, in milliseconds.
    pub at_ms: f64,
    /// Connections in use.
    pub in_use: u32,
    /// Sessions waiting for one.
    pub waiting: u32,
}

/// Why a pool gave no connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolCause {
    /// `convoy`, `idle_in_transaction`, `leaked`, `too_small`, `server_full`, `connect_trouble`, `nested_acquire` or `held_idle`.
    pub cause: &'static str,
    /// Of the time the pool was dry, in percent; none where no connection was to be had at all.
    pub share: Option<f64>,
    /// What was seen, and what to do.
    pub text: String,
}
