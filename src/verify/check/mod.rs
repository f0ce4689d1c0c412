//! A check: a file with a header and one statement that returns the rows that break an invariant.

mod header;
mod map;
mod overrides;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::{FileError, Source, without_end};

pub use map::Map;
pub(in crate::verify) use map::{Expression, MappedRelation};
pub(in crate::verify) use overrides::{overrides, with_hint};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A finding is worth a look.
    Warn,
    /// A finding fails the run.
    #[default]
    Error,
}

impl Severity {
    /// As it is written: `warn` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

/// One check, as its file says, with the defaults of its folder's `suite.toml`.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name in reports, `hotel.inventory_violations`.
    pub id: String,
    /// The invariant in a line.
    pub title: String,
    /// How bad a finding is, where neither threshold says otherwise.
    pub severity: Severity,
    /// From how many findings on it is a warning.
    pub warn_if: Option<Threshold>,
    /// From how many findings on it is an error; judged before `warn_if`.
    pub error_if: Option<Threshold>,
    /// A statement that returns one number: what percentages are percentages of.
    pub of: Option<String>,
    /// The columns that identify a finding: for comparing runs, waivers and fingerprints.
    pub key: Vec<String>,
    /// Words to select checks by.
    pub tags: Vec<String>,
    /// Findings shown, where the command line doesn't say.
    pub sample: Option<usize>,
    /// How findings are counted.
    pub count: Count,
    /// Columns whose values appear in no output. None of them is in `key`.
    pub mask: Vec<String>,
    /// After this it is cancelled and could not be decided, where it differs from the run's.
    pub timeout: Option<Duration>,
    /// Younger rows are pending.
    pub grace: Option<Grace>,
    /// After so long it is run again on another snapshot, and only what both show is a finding.
    pub confirm: Option<Duration>,
    /// Where it is run.
    pub run_on: RunOn,
    /// What there must be; without it the check is skipped.
    pub requires: Requires,
    /// Read by the statement with `current_setting('race.<name>')`.
    pub params: BTreeMap<String, String>,
    /// Walks a large table in ranges of a key.
    pub chunk: Option<Chunk>,
    /// Whether it sees what row-level security shows of the tables. Otherwise rows that a policy may hide are an error: a check that sees
    /// a part of the rows would hold for the wrong reason.
    pub row_security: bool,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What to do about a finding: a sentence, a path or a URL.
    pub remedy: Option<String>,
    /// What a pack's check reads: the columns it uses, by canonical relation.
    pub needs: BTreeMap<String, Vec<String>>,
    /// The user's tables under the names that a pack's checks use.
    pub map: Option<Map>,
    /// The map file that it was found by.
    pub map_file: Option<Arc<str>>,
    /// Why it can't be run with the map that was given, and what to add to it.
    pub missing: Option<String>,
    /// Why it is not to be run, by an override of a `suite.toml`.
    pub off: Option<String>,
    /// The file; sent whole, its header is a comment.
    pub source: Source,
}

/// `> 5`, `>= 0.1%`: a bound for a count, or for a percentage of what `of` counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Whether the bound itself is still allowed: `>` as against `>=`.
    pub is_strict: bool,
    /// The bound.
    pub bound: f64,
    /// Whether it is a percentage.
    pub is_percentage: bool,
}

/// How findings are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Up to so many: `capped(1000)`, the default.
    Capped(u64),
    /// All of them.
    Exact,
    /// Not at all: one is enough.
    None,
}

impl Default for Count {
    fn default() -> Self {
        Count::Capped(1_000)
    }
}

/// Rows younger than this are pending: somebody may still be about to put them right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    /// A column of the result, a `timestamptz` or `timestamp`.
    pub column: String,
    /// How long.
    pub time: Duration,
}

/// Where a check is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOn {
    /// On both.
    #[default]
    Any,
    /// Not on a standby.
    Primary,
    /// Only on a standby.
    Standby,
}

/// What a check needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requires {
    /// The oldest version of PostgreSQL, as its major number.
    pub version_min: Option<u32>,
    /// The newest version of PostgreSQL, as its major number.
    pub version_max: Option<u32>,
    /// Tables and views, as `to_regclass` reads them.
    pub relations: Vec<String>,
    /// Extensions that must be installed.
    pub extensions: Vec<String>,
    /// An SQL expression that must be true.
    pub predicate: Option<String>,
}

/// A table that is walked in ranges of a key, so that no statement runs for long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The table.
    pub relation: String,
    /// An indexed column of it, an integer. The statement filters by `current_setting('race.chunk_from')::int8` (included) and
    /// `current_setting('race.chunk_to')::int8` (not included).
    pub key: String,
    /// Rows in a range, about.
    #[serde(default = "header::chunk_rows")]
    pub rows: u64,
}

impl Check {
    /// Reads a check from its file's text.
    ///
    /// # Errors
    /// [`FileError::Content`] when the header is missing or wrong.
    pub fn parse(source: Source) -> Result<Check, FileError> {
        header::parse(source, &[])
    }

    /// Reads a check; `suites` are the `suite.toml`s of the folders around it, the outermost first.
    ///
    /// # Errors
    /// [`FileError::Content`] when the header is missing or wrong, or a suite is.
    pub fn parse_with(source: Source, suites: &[Source]) -> Result<Check, FileError> {
        header::parse(source, suites)
    }

    /// What is sent, without the semicolon at its end, and where in it the file's text begins.
    pub fn statement(&self) -> (String, usize) {
        let text = without_end(&self.source.text);
        let Some(map) = &self.map else {
            return (text.to_string(), 0);
        };
        // as a subquery, because the statement may begin with a `with` of its own, and two in a row are not allowed
        let head = format!("{}\nselect * from (\n", map.text());
        (format!("{head}{text}\n) as db_race_check"), head.len())
    }

    /// Where a byte offset in [`Check::statement`] leads: a line of its file, or of the map's.
    pub fn place_of(&self, offset: usize) -> String {
        let (_, begin) = self.statement();
        match (&self.map, offset.checked_sub(begin)) {
            (Some(map), None) => map.place_of(offset),
            (None, _) if !self.needs.is_empty() => {
                let pack = self.id.split('.').next().unwrap_or_default();
                let line = self.source.line(offset);
                format!("line {line}; the names are the pack's, `db-race init --pack {pack}` maps them to yours")
            }
            (_, inside) => format!("line {}", self.source.line(inside.unwrap_or(offset))),
        }
    }

    /// The 1-based line at which the statement begins.
    pub fn statement_line(&self) -> usize {
        let is_sql = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("--");
        let lines = self.source.text.lines();
        lines.enumerate().find(|(_, l)| is_sql(l)).map_or(1, |(i, _)| i + 1)
    }
}
