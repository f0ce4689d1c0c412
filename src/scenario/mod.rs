//! The file a user writes -> a checked [`Plan`]. Knows nothing of running.
//!
//! The format is shown in `docs/scenarios.md`.

mod file;
mod group;
mod overrides;
mod ramp;
mod rule;
mod statement;
mod value;

use std::ops::Range;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::source::{Diagnostic, FileError, Source};
use crate::system::{Bug, System};
use crate::verify::Check;

pub use file::load;
pub(crate) use file::unknown_parameter;
pub use overrides::Overrides;
pub use rule::{Abort, Event, Figure, Measure, Must, Names, Of, Op, Rule, RuleError, Side};
pub use statement::Statement;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A file is missing or wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// An override doesn't fit the scenario.
    #[error("{flag}: {message}")]
    Override {
        /// The flag, with its value.
        flag: String,
        /// What is wrong, and what was expected.
        message: String,
    },
}

impl From<Diagnostic> for ScenarioError {
    fn from(diagnostic: Diagnostic) -> Self {
        ScenarioError::File(diagnostic.into())
    }
}

/// A checked scenario: all that a run needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for reports.
    pub title: String,
    /// What is raced and what must hold.
    pub about: String,
    /// The file.
    pub source: Source,
    /// The schema to install first; without one the scenario races the database it is given.
    pub system: Option<System>,
    /// The broken twin to install.
    pub bug: Option<Bug>,
    /// How often setup, race and verify are repeated.
    pub rounds: u32,
    /// SQL run before the control and before each round.
    pub setup: Option<Located>,
    /// What is fought over.
    pub keys: Option<Keys>,
    /// Values drawn anew for each attempt.
    pub params: Vec<Param>,
    /// The sessions.
    pub groups: Vec<Group>,
    /// What the sessions draw their connections from; the first one is `[pool]`.
    pub pools: Vec<Pool>,
    /// Tables the write gate closes; empty: found by a dry call.
    pub gate_tables: Vec<Located>,
    /// What the run is judged by.
    pub rules: Vec<Rule>,
    /// What must hold in the data after each round.
    pub checks: Vec<Check>,
    /// Seeds every draw.
    pub seed: u64,
    /// Whether the attempts are first run one after another.
    pub control: bool,
    /// Whether the server's locks are sampled while the sessions race.
    pub watch: bool,
}

impl Plan {
    /// Sessions over all groups.
    pub fn sessions(&self) -> u32 {
        self.groups.iter().map(|g| g.sessions).sum()
    }

    /// Sessions that draw from a pool.
    pub fn sessions_of(&self, pool: usize) -> u32 {
        let of_pool = self.groups.iter().filter(|g| g.pool == pool);
        of_pool.map(|g| g.sessions).sum()
    }

    /// Connections that a pool may hold: as many as its sessions can use, where the scenario doesn't say.
    pub fn pool_size(&self, pool: usize) -> u32 {
        let used = |g: &Group| {
            g.sessions
                * if g.steps.iter().any(|s| s.second_connection) {
                    2
                } else {
                    1
                }
        };
        let of_pool = self.groups.iter().filter(|g| g.pool == pool);
        self.pools[pool].size.unwrap_or_else(|| of_pool.map(used).sum())
    }

    /// Connections that the pools open before the race. Those that are made on demand may meet a full server: that is what
    /// they are for.
    pub fn connections_at_start(&self) -> u32 {
        let at_start = (0..self.pools.len()).filter(|pool| !self.pools[*pool].on_demand);
        at_start.map(|pool| self.pool_size(pool)).sum()
    }
}

/// A piece of SQL and where it stands in the scenario file.
#[derive(Clone, Debug)]
pub struct Located {
    /// The SQL.
    pub text: String,
    /// The byte range of the TOML string, quotes included.
    pub span: Range<usize>,
}

impl Located {
    /// The byte range in the file of a range of the SQL; the whole string when it was written with escapes.
    pub fn place(&self, source: &Source, range: Range<usize>) -> Range<usize> {
        let written = source.text.get(self.span.clone()).unwrap_or_default();
        match written.find(&self.text) {
            Some(at) => self.span.start + at + range.start..self.span.start + at + range.end,
            None => self.span.clone(),
        }
    }

    /// An error at a place of the SQL.
    pub fn error(&self, source: &Source, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        source.error(self.place(source, range), message)
    }
}

/// What is fought over: one key a row.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The query; its columns are parameters of the steps.
    pub sql: Located,
    /// How sessions are spread over the rows.
    pub pick: Pick,
}

/// How sessions are spread over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// In turn.
    RoundRobin,
    /// Evenly at random.
    Random,
    /// All on the first row.
    Hot,
}

/// A value drawn anew for each attempt.
#[derive(Clone, Debug)]
pub struct Param {
    /// `:name`.
    pub name: String,
    /// From what.
    pub draw: Draw,
}

/// What a parameter is drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draw {
    /// A whole number, both ends included.
    Int(i64, i64),
    /// One of these.
    Choice(Vec<String>),
}

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

/// What sessions draw their connections from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// `pool`, or the name of a `[pools.NAME]`.
    pub name: String,
    /// Connections; none: as many as its sessions can use, and each keeps its own.
    pub size: Option<u32>,
    /// How long a session waits for one.
    pub wait: Duration,
    /// How long making a new connection may take.
    pub create: Duration,
    /// Whether connections are made when they are first needed, as many applications do, and not before the race.
    pub on_demand: bool,
    /// What is done to a connection before it is lent again.
    pub recycling: Recycling,
}

/// What is done to a connection before it is lent again (deadpool-postgres' `RecyclingMethod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recycling {
    /// Nothing.
    #[default]
    Fast,
    /// An empty query shows that it lives.
    Verified,
    /// `DISCARD ALL`, but for prepared statements.
    Clean,
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
