//! Where the memory is kept: a SQLite file, or a schema in a PostgreSQL.
//!
//! A run is noted when it begins, and what it saw is stored in one transaction when it ends. Killed at any moment in between, it leaves
//! the memory as the last complete run has left it, and the note says that it didn't end. One run at a time has a memory; who writes
//! although another run has begun since (its lock was lost) is refused.

mod postgres;
mod rows;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::compare::{Memory, Remembered};
use super::diff::Known;
use super::{AuditCounts, Kept, Moment, Retired, Story, Subject};
use crate::postgres::{ConnectError, Target};

/// The version of the schema that this program writes.
const VERSION: i64 = 2;

/// Where a memory is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// The schema `db_race_audit` in a database.
    Database(Box<Target>),
}

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody said where it is, and there is no home directory.
    #[error("there is no place for the audit's memory: neither XDG_STATE_HOME nor HOME is set; give --state FILE")]
    NoPlace,
    /// Another run has it.
    #[error(
        "another audit is running with the memory {0}; this one has looked at nothing. \
         Audits that are to run at the same time need a --name each"
    )]
    Busy(String),
    /// Another run has begun although this one had it.
    #[error("the memory {0} was used by another audit in the meantime; what this one saw is not remembered")]
    Overtaken(String),
    /// History was asked for, and there is none.
    #[error("there is no memory at {0} yet: run `db-race audit` first, or give --state")]
    Missing(String),
    /// It is not ours.
    #[error("{place} is not a memory of db-race audit: {why}. It was left as it is; give another --state")]
    Foreign {
        /// The file or the database.
        place: String,
        /// What was found instead.
        why: String,
    },
    /// It is damaged.
    #[error("the memory {place} is damaged: {why}. It was left as it is; move it away to begin anew, or restore it")]
    Damaged {
        /// The file or the database.
        place: String,
        /// What was found.
        why: String,
    },
    /// It is of an older program, and only a run brings it up to date.
    #[error(
        "the memory {place} is of an older db-race and doesn't know this yet: the next run of `db-race audit` brings it up to date"
    )]
    Older {
        /// The file or the database.
        place: String,
    },
    /// It is of a newer program.
    #[error(
        "the memory {place} was written by a newer db-race (its version is {found}, this program knows up to {VERSION})"
    )]
    Newer {
        /// The file or the database.
        place: String,
        /// Its version.
        found: i64,
    },
    /// It can't be reached.
    #[error("the audit's memory: {0}")]
    Connect(#[from] ConnectError),
    /// Reading or writing failed.
    #[error("the audit's memory {place}: {why}")]
    Failed {
        /// The file or the database.
        place: String,
        /// The reason given.
        why: String,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Its exit code.
    pub exit_code: u8,
    /// Checks run.
    pub checks: usize,
    /// How many findings.
    pub counts: AuditCounts,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What a complete run leaves to be remembered.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Findings, as they are now.
    pub findings: Vec<Kept>,
    /// Checks, as they came out.
    pub subjects: BTreeMap<Subject, Remembered>,
    /// The name of the suite, where none of its checks was left out.
    pub whole_suite: Option<String>,
    /// Runs that began before this are forgotten, and what happened to findings before; findings never are.
    pub forget_before: Option<Moment>,
}

impl Changes {
    /// The databases of the run.
    fn databases(&self) -> BTreeSet<&str> {
        self.subjects.keys().map(|subject| subject.database.as_str()).collect()
    }
}

/// A run, as it is remembered.
#[derive(Clone, Debug, Serialize)]
pub struct PastRun {
    /// In the order of their beginnings.
    pub id: i64,
    /// When it began.
    pub started_at: Moment,
    /// When it ended; none when it was killed, or is still running.
    pub ended_at: Option<Moment>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// Whether what it saw is remembered.
    pub complete: bool,
    /// Checks run.
    pub checks: u64,
    /// How many findings.
    pub counts: AuditCounts,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
}

/// A check in a run, as it is remembered.
#[derive(Clone, Debug, Serialize)]
pub struct PastLook {
    /// The run.
    pub run: i64,
    /// When it began.
    pub at: Moment,
    /// The check.
    pub subject: Subject,
    /// `held`, `violated` ..., after waivers.
    pub decision: String,
    /// `warn` or `error`; empty when it wasn't violated.
    pub level: String,
    /// Rows found up to the check's cap, waived ones included.
    pub count: u64,
    /// Whether there are more.
    pub is_capped: bool,
    /// How many findings.
    pub counts: AuditCounts,
}

/// A memory, open.
#[derive(Debug)]
pub enum Store {
    /// In a file.
    File(sqlite::FileStore),
    /// In a database.
    Database(Box<postgres::DatabaseStore>),
}

/// `XDG_STATE_HOME/db-race/<name>.sqlite`, with the place that the XDG specification gives where it isn't set.
///
/// # Errors
/// [`StoreError::NoPlace`].
pub fn default_file(name: &str) -> Result<PathBuf, StoreError> {
    let dir = |variable: &str| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    Ok(state
        .ok_or(StoreError::NoPlace)?
        .join("db-race")
        .join(format!("{name}.sqlite")))
}

impl Location {
    /// A `postgresql://` URL or `service=NAME`, or else a file.
    ///
    /// # Errors
    /// When the URL is wrong.
    pub fn parse(text: &str) -> Result<Location, ConnectError> {
        let begins = ["postgresql://", "postgres://", "service="];
        match begins.iter().any(|begin| text.starts_with(begin)) {
            true => Ok(Location::Database(Box::new(Target::parse(text)?))),
            false => Ok(Location::File(Path::new(text).into())),
        }
    }
}

impl Store {
    /// Opens a memory for a run, and makes it where there is none. It is this run's until the store is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; whatever is there is left as it is.
    pub async fn open(location: &Location) -> Result<Store, StoreError> {
        Ok(match location {
            Location::File(path) => Store::File(sqlite::FileStore::open(path)?),
            Location::Database(target) => Store::Database(Box::new(postgres::DatabaseStore::open(target).await?)),
        })
    }

    /// Opens a memory to read it.
    ///
    /// # Errors
    /// [`StoreError`], also when there is none.
    pub async fn read(location: &Location) -> Result<Store, StoreError> {
        Ok(match location {
            Location::File(path) => Store::File(sqlite::FileStore::read(path)?),
            Location::Database(target) => Store::Database(Box::new(postgres::DatabaseStore::read(target).await?)),
        })
    }

    /// What to call it.
    pub fn place(&self) -> &str {
        match self {
            Store::File(store) => store.place(),
            Store::Database(store) => store.place(),
        }
    }

    /// Notes that a run begins, and gives its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&mut self, suite: &str, now: Moment) -> Result<i64, StoreError> {
        match self {
            Store::File(store) => store.begin(suite, now),
            Store::Database(store) => store.begin(suite, now).await,
        }
    }

    /// What is remembered of some databases, for the run of the given number; `suite` is what it runs where, `whole_suite` what of it is a
    /// whole suite.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn memory(
        &self,
        run: i64,
        suite: &str,
        whole_suite: Option<&str>,
        databases: &[String],
    ) -> Result<Memory, StoreError> {
        match self {
            Store::File(store) => store.memory(run, suite, whole_suite, databases),
            Store::Database(store) => store.memory(run, suite, whole_suite, databases).await,
        }
    }

    /// The checks that it knows, of all databases.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn check_ids(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Store::File(store) => store.check_ids(),
            Store::Database(store) => store.check_ids().await,
        }
    }

    /// Notes how a run ended, and with `changes` what it saw, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it is remembered.
    pub async fn end(&mut self, run: i64, now: Moment, end: &End, changes: Option<&Changes>) -> Result<(), StoreError> {
        match self {
            Store::File(store) => store.end(run, now, end, changes),
            Store::Database(store) => store.end(run, now, end, changes).await,
        }
    }

    /// The runs since then, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runs(&self, since: Moment) -> Result<Vec<PastRun>, StoreError> {
        match self {
            Store::File(store) => store.runs(since),
            Store::Database(store) => store.runs(since).await,
        }
    }

    /// How checks came out since then, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn looks(&self, since: Moment) -> Result<Vec<PastLook>, StoreError> {
        match self {
            Store::File(store) => store.looks(since),
            Store::Database(store) => store.looks(since).await,
        }
    }

    /// All findings that are open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_findings(&self) -> Result<Vec<Known>, StoreError> {
        match self {
            Store::File(store) => store.open_findings(),
            Store::Database(store) => store.open_findings().await,
        }
    }

    /// Remembers findings beside a run, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it is remembered.
    pub async fn keep(&mut self, findings: &[Kept]) -> Result<(), StoreError> {
        match self {
            Store::File(store) => store.keep(findings),
            Store::Database(store) => store.keep(findings).await,
        }
    }

    /// What was retired since then, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retired(&self, since: Moment) -> Result<Vec<Retired>, StoreError> {
        match self {
            Store::File(store) => store.retired(since),
            Store::Database(store) => store.retired(since).await,
        }
    }

    /// All findings of a check, open or not, with all that is remembered of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stories(&self, check: &str) -> Result<Vec<Story>, StoreError> {
        match self {
            Store::File(store) => store.stories(check),
            Store::Database(store) => store.stories(check).await,
        }
    }
}

/// How long a memory is kept from a run by another statement on it.
const WAIT_MAX: Duration = Duration::from_secs(5);
