//! `db-race contend`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod bundled;
mod gates;
mod interrupt;
mod outcomes;
mod places;
mod pool;
mod reports;
mod schedules;
mod values;
mod waits;

use serde_json::Value;

/// The outcomes of all attempts that were met at all, with their counts.
fn outcomes(counts: &Value) -> Vec<(&str, u64)> {
    let counts = counts.as_object().unwrap().iter();
    let mut met: Vec<(&str, u64)> = counts
        .map(|(name, count)| (name.as_str(), count.as_u64().unwrap()))
        .collect();
    met.retain(|(_, count)| *count > 0);
    met
}

/// A list in the report.
#[track_caller]
fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}
