//! Checks: SQL that returns the rows that break an invariant.
//!
//! All checks of a run see one snapshot of the database, in read-only transactions that are always rolled back.

mod check;
mod result;
mod run;

pub use check::{Check, Chunk, Count, Grace, Requires, RunOn, Severity, Threshold, find};
pub use result::{CheckResult, DatabaseResult, Decision, Finding, Key, Snapshot};
pub use run::{Looked, Options, VerifyError, run};
