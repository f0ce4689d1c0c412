//! Checks: SQL that returns the rows that break an invariant.
//!
//! All checks of a run see one snapshot of the database, in read-only transactions that are always rolled back.

mod check;
mod find;
pub mod fixture;
pub mod lint;
mod options;
pub mod pack;
mod result;
mod run;
mod select;
mod suite;
mod tuned;

pub use check::{Check, Chunk, Count, Grace, Map, Requires, RunOn, Severity, Threshold};
pub use find::find;
pub use options::{Options, SAMPLE};
pub use result::{CheckResult, DatabaseResult, Decision, Finding, Key, MASKED, Snapshot};
pub(crate) use run::level;
pub use run::{Found, Looked, Named, Progress, VerifyError, inspect, run, run_all};
pub use select::{SelectError, Selection, known_params};
