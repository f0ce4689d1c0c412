//! What is stored, as the types that it stands for, whatever the database.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{PastRun, StoreError};
use crate::audit::diff::Known;
use crate::audit::{AuditCounts, Closed, Event, Happened, Key, Moment, Story, Subject};

/// A finding from its stored parts.
#[allow(clippy::too_many_arguments, reason = "the columns of a row")]
pub(super) fn known(
    place: &str,
    subject: Subject,
    key: &str,
    times: [&str; 3],
    seen: [i64; 2],
    closed: (Option<&str>, Option<&str>),
) -> Result<Known, StoreError> {
    let key: Key = serde_json::from_str(key).map_err(|error| damaged(place, format!("the key {key}: {error}")))?;
    let moment = |text: &str| moment(place, text);
    let closed = match (closed.0, closed.1, closed.1.and_then(Closed::parse)) {
        (Some(at), _, Some(why)) => Some((moment(at)?, why)),
        (None, None, _) => None,
        (at, why, _) => return Err(damaged(place, format!("closed {at:?} {why:?}"))),
    };
    Ok(Known {
        subject,
        key,
        first_seen: moment(times[0])?,
        last_seen: moment(times[1])?,
        open_since: moment(times[2])?,
        times_seen: seen[0].unsigned_abs(),
        times_back: seen[1].unsigned_abs(),
        closed,
    })
}

/// A row of `run` before its times are read.
pub(super) struct RunRow {
    pub(super) id: i64,
    pub(super) started_at: String,
    pub(super) ended_at: Option<String>,
    pub(super) exit_code: Option<u8>,
    pub(super) complete: bool,
    pub(super) checks: i64,
    pub(super) duration_ms: Option<i64>,
}

impl RunRow {
    pub(super) fn run(self, place: &str, counts: [i64; 7]) -> Result<PastRun, StoreError> {
        Ok(PastRun {
            id: self.id,
            started_at: moment(place, &self.started_at)?,
            ended_at: self.ended_at.map(|at| moment(place, &at)).transpose()?,
            exit_code: self.exit_code,
            complete: self.complete,
            checks: self.checks.unsigned_abs(),
            counts: counts_of(counts),
            duration_ms: self.duration_ms.map(i64::unsigned_abs),
        })
    }
}

pub(super) fn moment(place: &str, text: &str) -> Result<Moment, StoreError> {
    Moment::parse(text).ok_or_else(|| damaged(place, format!("the time {text}")))
}

pub(super) fn damaged(place: &str, why: String) -> StoreError {
    StoreError::Damaged {
        place: place.to_string(),
        why,
    }
}

/// A story from a finding and its stored parts.
pub(super) fn story(
    place: &str,
    known: Known,
    row: Option<&str>,
    waiver: Option<&str>,
    history: Vec<Happened>,
) -> Result<Story, StoreError> {
    Ok(Story {
        known,
        row: row.map(|text| json(place, "a row", text)).transpose()?,
        waiver: waiver.map(|text| json(place, "a waiver", text)).transpose()?,
        history,
    })
}

pub(super) fn happened(place: &str, at: &str, what: &str, why: Option<String>) -> Result<Happened, StoreError> {
    Ok(Happened {
        at: moment(place, at)?,
        what: Event::parse(what).ok_or_else(|| damaged(place, format!("the event {what}")))?,
        why,
    })
}

fn json<T: DeserializeOwned>(place: &str, what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| damaged(place, format!("{what}, {text}: {error}")))
}

/// As it is stored.
pub(super) fn json_text(value: &impl Serialize) -> String {
    // keys, rows and waivers are texts and numbers, which can't fail to be written
    serde_json::to_string(value).unwrap_or_default()
}

/// Counts in the order of the columns `new, came_back, open, fixed, check_changed, not_looked_at, waived`.
pub(super) fn counts_row(counts: &AuditCounts) -> [i64; 7] {
    let AuditCounts {
        new,
        came_back,
        open,
        fixed,
        check_changed,
        not_looked_at,
        waived,
    } = *counts;
    [new, came_back, open, fixed, check_changed, not_looked_at, waived].map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) fn counts_of(row: [i64; 7]) -> AuditCounts {
    let [new, came_back, open, fixed, check_changed, not_looked_at, waived] =
        row.map(|n| usize::try_from(n).unwrap_or_default());
    AuditCounts {
        new,
        came_back,
        open,
        fixed,
        check_changed,
        not_looked_at,
        waived,
    }
}
