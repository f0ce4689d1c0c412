//! The file a user writes -> a checked [`Plan`]. Knows nothing of running.
//!
//! The format is shown in `docs/scenarios.md`.

mod file;
mod group;
mod overrides;
mod ramp;
mod rule;
mod statement;

use std::ops::Range;
use std::time::Duration;

use crate::source::{Diagnostic, FileError, Source};
use crate::system::{Bug, System};
use crate::verify::Check;

pub use file::load;
pub(crate) use file::unknown_parameter;
pub use group::{Gate, Group, Isolation, Pause, Ramp, Refusal, Retry, Schedule, Stage, Step, Transaction};
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

    /// How sessions are spread over keys.
    pub fn pick(&self) -> Pick {
        self.keys.as_ref().map_or(Pick::Hot, |keys| keys.pick)
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
