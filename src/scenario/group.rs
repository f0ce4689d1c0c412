//! Sessions that do the same: what they do, when, and how.

use std::time::Duration;

use super::{Located, Statement};
use crate::outcome::Outcome;

/// Sessions that do the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many; the most there can be under `ramping` and the rates.
    pub sessions: u32,
    /// When they make attempts.
    pub schedule: Schedule,
    /// How long after the round's start the schedule begins.
    pub start: Duration,
    /// How long attempts under way may go on when the schedule is over.
    pub grace: Duration,
    /// The pause after each attempt.
    pub think: Pause,
    /// Whether the connection is kept during that pause.
    pub holds: bool,
    /// What holds them so that they strike together.
    pub gate: Gate,
    /// All steps in one transaction; none: each in its own.
    pub transaction: Option<Transaction>,
    /// Server settings of its connections, by name.
    pub settings: Vec<(String, String)>,
    /// After this an attempt, retries included, is cancelled on the server.
    pub timeout: Option<Duration>,
    /// Which failures are tried again; none: none.
    pub retry: Option<Retry>,
    /// Index of the pool it draws from.
    pub pool: usize,
    /// Outcomes after which the connection is never given back.
    pub leak: Vec<Outcome>,
    /// Whether an attempt is stored: returns a row if so.
    pub settle: Option<Step>,
    /// What an attempt does.
    pub steps: Vec<Step>,
}

/// When the sessions of a group make attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Each session exactly so many (k6: per-vu-iterations).
    PerSession {
        /// Attempts of each session.
        iterations: u32,
        /// No attempt begins later; what is left is dropped.
        max: Duration,
    },
    /// So many, drawn by all (k6: shared-iterations).
    Shared {
        /// Attempts of all sessions together.
        iterations: u32,
        /// No attempt begins later; what is left is dropped.
        max: Duration,
    },
    /// All sessions, for so long (k6: constant-vus).
    Constant {
        /// For how long.
        duration: Duration,
    },
    /// More or fewer sessions as time goes on (k6: ramping-vus).
    Ramping {
        /// Sessions at the start, and how their number changes.
        ramp: Ramp,
        /// How long the attempt of a session that is taken out may go on.
        ramp_down: Duration,
    },
    /// So many starts a second, each by a free session (k6: constant-arrival-rate, ramping-arrival-rate).
    Rate {
        /// Starts a second at the start, and how their number changes.
        ramp: Ramp,
    },
}

/// A figure that changes linearly, stage by stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    /// The figure at the start.
    pub start: f64,
    /// How it changes.
    pub stages: Vec<Stage>,
}

/// The figure reaches a target after a time; at once when the time is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// For how long.
    pub duration: Duration,
    /// The figure at its end.
    pub target: f64,
}

impl Schedule {
    /// Attempts of a group of so many sessions in a round; none where time decides.
    pub fn attempts(&self, sessions: u32) -> Option<u32> {
        match self {
            Schedule::PerSession { iterations, .. } => Some(iterations.saturating_mul(sessions)),
            Schedule::Shared { iterations, .. } => Some(*iterations),
            Schedule::Constant { .. } | Schedule::Ramping { .. } | Schedule::Rate { .. } => None,
        }
    }

    /// Its name in scenario files.
    pub fn name(&self) -> &'static str {
        match self {
            Schedule::PerSession { .. } => "per-session",
            Schedule::Shared { .. } => "shared",
            Schedule::Constant { .. } => "constant",
            Schedule::Ramping { .. } => "ramping",
            Schedule::Rate { ramp } if ramp.is_level() => "constant-rate",
            Schedule::Rate { .. } => "ramping-rate",
        }
    }
}

/// A length of time, drawn evenly between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// The shortest.
    pub from: Duration,
    /// The longest.
    pub to: Duration,
}

/// How the steps of an attempt are made one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The isolation level; none: the server's default.
    pub isolation: Option<Isolation>,
    /// `READ ONLY`
    pub read_only: bool,
    /// `DEFERRABLE`
    pub deferrable: bool,
}

/// An isolation level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

impl Transaction {
    /// The statement that begins it.
    pub fn begin(&self) -> String {
        let mut sql = String::from("BEGIN");
        sql.push_str(match self.isolation {
            None => "",
            Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
            Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
            Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
        });
        if self.read_only {
            sql.push_str(" READ ONLY");
        }
        if self.deferrable {
            sql.push_str(" DEFERRABLE");
        }
        sql
    }
}

/// How a failed attempt is tried again, as an application does it: after a rollback, with the same parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The SQLSTATEs that are tried again.
    pub on: Vec<String>,
    /// How often at the most, the first try not counted.
    pub times: u32,
    /// The longest pause before the first retry; each retry draws one between zero and twice the last one's bound.
    pub backoff: Duration,
    /// The bound never grows beyond this.
    pub backoff_max: Duration,
    /// No retry begins later than so long after the attempt began.
    pub budget: Option<Duration>,
}

impl Retry {
    /// The longest pause before the retry that follows so many tries.
    pub fn bound(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(20);
        self.backoff.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

/// What holds sessions so that they strike together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Nothing.
    None,
    /// Each step starts at once for all, released inside the server.
    Start,
    /// Each step runs up to its first write, and all write at once.
    Write,
    /// The same, and nobody commits before all have written. On a server of our own only; a write gate elsewhere.
    Commit,
}

impl Gate {
    /// All gates, by name.
    pub const ALL: [(&'static str, Gate); 4] = [
        ("none", Gate::None),
        ("start", Gate::Start),
        ("write", Gate::Write),
        ("commit", Gate::Commit),
    ];

    /// Whether it needs to know the tables that are written.
    pub fn closes_tables(self) -> bool {
        matches!(self, Gate::Write | Gate::Commit)
    }

    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        Gate::ALL.iter().find(|(_, g)| *g == self).map_or("", |(n, _)| n)
    }
}

/// One SQL statement of an attempt.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, unique in the scenario.
    pub name: String,
    /// The SQL, with `:name` parameters.
    pub statement: Statement,
    /// Where it stands in the file.
    pub at: Located,
    /// The refusals that are expected.
    pub reject: Vec<Refusal>,
    /// After this the step is cancelled on the server.
    pub timeout: Duration,
    /// The pause before it, with the connection (and the transaction) held.
    pub pause: Pause,
    /// Whether it runs on a second connection, asked for while the first one is held.
    pub second_connection: bool,
}

/// A refusal that a scenario expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An error; all that is given must match.
    Error {
        /// The SQLSTATE.
        sqlstate: Option<String>,
        /// The constraint's name.
        constraint: Option<String>,
        /// The primary message, `*` for anything.
        message: Option<String>,
    },
    /// A first row with these values, by column, as text.
    Row(Vec<(String, String)>),
    /// No row.
    NoRow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_backoff_doubles_up_to_its_maximum() {
        let retry = Retry {
            on: Vec::new(),
            times: 9,
            backoff: Duration::from_millis(10),
            backoff_max: Duration::from_millis(50),
            budget: None,
        };
        let bounds: Vec<u128> = [1, 2, 3, 4, 5, 1_000].map(|n| retry.bound(n).as_millis()).into();
        assert_eq!(bounds, [10, 20, 40, 50, 50, 50]);
        let none = Retry {
            backoff: Duration::ZERO,
            ..retry
        };
        assert_eq!(none.bound(7), Duration::ZERO);
    }
}
