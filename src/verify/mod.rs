//! Checks: SQL that returns the rows that break an invariant.
//!
//! All checks of a run see one snapshot of the database, in read-only transactions that are always rolled back.

mod check;
mod find;
pub mod pack;
mod result;
mod run;

pub use check::{Check, Chunk, Count, Grace, Map, Requires, RunOn, Severity, Threshold};
pub use find::find;
pub use result::{CheckResult, DatabaseResult, Decision, Finding, Key, Snapshot};
pub use run::{Looked, Options, VerifyError, run};
