//! The file a user writes -> a checked [`Plan`]. Knows nothing of running.
//!
//! The format is shown in `docs/scenarios.md`.

mod file;
mod overrides;
mod rule;
mod statement;

use std::ops::Range;
use std::time::Duration;

use crate::source::{Diagnostic, FileError, Source};
use crate::system::{Bug, System};
use crate::verify::Check;

pub use file::load;
pub(crate) use file::unknown_parameter;
pub use overrides::Overrides;
pub use rule::{Figure, Measure, Must, Op, Rule, RuleError, Side};
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
    /// What the sessions draw their connections from.
    pub pool: Pool,
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
}

impl Plan {
    /// Sessions over all groups.
    pub fn sessions(&self) -> u32 {
        self.groups.iter().map(|g| g.sessions).sum()
    }

    /// Connections in the pool.
    pub fn pool_size(&self) -> u32 {
        self.pool.size.unwrap_or_else(|| self.sessions())
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
    /// How many.
    pub sessions: u32,
    /// How many attempts they make.
    pub schedule: Schedule,
    /// What holds them so that they strike together.
    pub gate: Gate,
    /// What an attempt does.
    pub steps: Vec<Step>,
}

/// How many attempts the sessions of a group make in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Each session exactly so many (k6: per-vu-iterations).
    PerSession {
        /// Attempts of each session.
        iterations: u32,
    },
    /// So many, drawn by all (k6: shared-iterations).
    Shared {
        /// Attempts of all sessions together.
        iterations: u32,
    },
}

impl Schedule {
    /// Attempts in a round of a group of so many sessions.
    pub fn attempts(self, sessions: u32) -> u32 {
        match self {
            Schedule::PerSession { iterations } => iterations.saturating_mul(sessions),
            Schedule::Shared { iterations } => iterations,
        }
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

/// What the sessions draw their connections from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Connections; none: as many as sessions.
    pub size: Option<u32>,
    /// How long a session waits for one.
    pub wait: Duration,
}
