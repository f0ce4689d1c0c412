//! Checks: SQL that returns the rows that break an invariant.
//!
//! All checks of a run see one snapshot of the database, in read-only transactions that are always rolled back.

mod check;
mod run;

pub use check::{Check, Severity, find};
pub use run::{CheckResult, Decision, Finding, Options, VerifyError, run};
