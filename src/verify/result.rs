//! What a run of checks has to say.

use serde::Serialize;

use super::{Check, Severity};

/// What stands for the value of a masked column.
pub const MASKED: &str = "***";

/// The values of a check's key columns, as text.
pub type Key = Vec<Option<String>>;

/// What became of a check.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckResult {
    /// The check's id.
    pub id: String,
    /// The invariant in a line.
    pub title: String,
    /// The check's file.
    pub file: String,
    /// The line in it at which the statement begins.
    pub line: usize,
    /// Which of the run's databases it was run on, from 0.
    pub database: usize,
    /// Which of that database's snapshots it saw, from 0; none when it was not run.
    pub snapshot: Option<usize>,
    /// How bad a finding is.
    pub severity: Severity,
    /// The check's tags.
    pub tags: Vec<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What to do about a finding.
    pub remedy: Option<String>,
    /// Whether the invariant held.
    pub decision: Decision,
    /// How bad it is, after the check's thresholds; none when it isn't violated.
    pub level: Option<Severity>,
    /// Rows found that are not pending, counted up to the cap.
    pub count: u64,
    /// Whether there are more than were counted.
    pub count_is_capped: bool,
    /// Rows found that are too young to tell, counted up to the cap, too.
    pub pending: u64,
    /// What percentages are percentages of, where the check says.
    pub total: Option<u64>,
    /// The columns that identify a finding.
    pub key: Vec<String>,
    /// The first findings.
    pub findings: Vec<Finding>,
    /// Why it could not be decided, or was skipped.
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// The keys of all rows that were counted, where the run was asked to keep them.
    #[serde(skip)]
    pub keys: Vec<Key>,
    /// The keys of the pending rows, likewise.
    #[serde(skip)]
    pub keys_pending: Vec<Key>,
}

impl CheckResult {
    /// Before anything was found.
    pub fn of(check: &Check) -> CheckResult {
        CheckResult {
            id: check.id.clone(),
            title: check.title.clone(),
            file: check.source.name.to_string(),
            line: check.statement_line(),
            severity: check.severity,
            tags: check.tags.clone(),
            owner: check.owner.clone(),
            remedy: check.remedy.clone(),
            key: check.key.clone(),
            ..CheckResult::default()
        }
    }
}

/// Whether an invariant held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// No row breaks it, or fewer than its thresholds allow.
    #[default]
    Held,
    /// Some row does.
    Violated,
    /// Some row does, and all of these are too young to tell.
    Pending,
    /// The check failed or took too long.
    CouldNotDecide,
    /// It was not to be run here.
    Skipped,
}

/// A row that breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The values of the check's key columns.
    pub key: Key,
    /// All columns with their values, in order; those of masked columns are [`MASKED`]. Very long ones are cut, with `…` behind.
    pub row: Vec<(String, Option<String>)>,
    /// Whether it is too young to tell.
    pub pending: bool,
}

/// A database that was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DatabaseResult {
    /// `user@host:port/database`.
    pub address: String,
    /// What the user calls it: its service, or its address.
    pub name: String,
    /// The server's version, as it gives it.
    pub version: String,
    /// Whether it is a standby.
    pub standby: bool,
    /// How far a standby is behind, in milliseconds, where it can tell.
    pub replay_lag_ms: Option<f64>,
    /// The snapshots that checks have seen: one, unless some had to be run again.
    pub snapshots: Vec<Snapshot>,
    /// Why nothing could be looked at there.
    pub problem: Option<String>,
    /// What the reader should know: workers that did not come, a snapshot that was held for long.
    pub notes: Vec<String>,
}

/// What the checks saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was taken, by the server's clock; RFC 3339.
    pub taken_at: String,
    /// Where the log stood: the last position written, or replayed on a standby.
    pub lsn: Option<String>,
    /// The oldest transaction that was still running.
    pub xmin: Option<String>,
    /// How long it was held, in milliseconds: for so long nothing that died since could be vacuumed away.
    pub held_ms: f64,
    /// Transactions that began while it was held, all of the server's databases together (`age(backend_xmin)`, at its end).
    pub xmin_age: Option<i64>,
}
