//! What was known against what was seen. Pure.
//!
//! The one rule that everything here follows: **nothing is fixed that was not looked at.** A finding is fixed only when its check was
//! run, could be decided, asks what it asked before, saw all of its rows, and the finding is neither among them nor among those that are too
//! young to tell.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Moment;

/// What identifies a finding of a check: its key columns by name, with their values as text.
pub type Key = BTreeMap<String, Option<String>>;

/// A check on a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// The database's name.
    pub database: String,
    /// The check's id.
    pub check: String,
}

/// A finding that some run has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which check found it, and where.
    pub subject: Subject,
    /// What identifies it.
    pub key: Key,
    /// When it was seen for the first time.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
    /// Since when it has been open without a break.
    pub open_since: Moment,
    /// In how many runs it was seen.
    pub times_seen: u64,
    /// How often it came back.
    pub times_back: u64,
    /// When and why it was closed; none while it is open.
    pub closed: Option<(Moment, Closed)>,
}

/// Why a finding is no longer open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// It was looked for and is gone.
    Fixed,
    /// The check was changed, and no longer finds it.
    CheckChanged,
    /// Nobody looks any more: somebody has retired the check.
    Retired,
}

impl Closed {
    const ALL: [Closed; 3] = [Closed::Fixed, Closed::CheckChanged, Closed::Retired];

    /// As it is in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Closed::Fixed => "fixed",
            Closed::CheckChanged => "check_changed",
            Closed::Retired => "retired",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Closed> {
        Closed::ALL.into_iter().find(|closed| closed.name() == name)
    }
}

/// How much of a check's rows was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of them.
    Whole,
    /// Some of them; why not all.
    Part(String),
    /// None; why.
    Nothing(String),
}

/// What a run saw of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Which check, and where.
    pub subject: Subject,
    /// The check's key columns.
    pub columns: BTreeSet<String>,
    /// What it asks ([`super::fingerprint`]).
    pub fingerprint: String,
    /// How much was seen.
    pub coverage: Coverage,
    /// The findings.
    pub found: BTreeSet<Key>,
    /// Rows that are too young to tell.
    pub pending: BTreeSet<Key>,
}

/// What became of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Never seen before.
    New,
    /// It had been closed.
    CameBack,
    /// It was open and still is.
    StillOpen,
    /// It was looked for and is gone.
    Fixed,
    /// The check no longer finds it, but it was changed.
    CheckChanged,
    /// It was open, and nobody knows; why.
    NotLooked(String),
}

/// A finding after a run, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// As it is to be remembered.
    pub finding: Known,
    /// What became of it.
    pub change: Change,
}

/// Compares what is known with what was seen at `now`. `asked` says what each check asked when it was last decided.
///
/// Findings that were closed and still are don't appear.
pub fn diff(known: Vec<Known>, asked: &BTreeMap<Subject, String>, looks: &[Look], now: Moment) -> Vec<Compared> {
    let looks: BTreeMap<&Subject, &Look> = looks.iter().map(|look| (&look.subject, look)).collect();
    let mut compared = Vec::new();
    let mut met: BTreeMap<&Subject, BTreeSet<Key>> = BTreeMap::new();
    for finding in known {
        let look = looks.get(&finding.subject).copied();
        if let Some(look) = look {
            met.entry(&look.subject).or_default().insert(finding.key.clone());
        }
        let change = match look {
            None if finding.closed.is_some() => continue,
            None => Change::NotLooked("its check was not run".into()),
            Some(look) => match fate(&finding, look, asked.get(&finding.subject)) {
                Some(change) => change,
                None => continue,
            },
        };
        compared.push(Compared {
            finding: after(finding, &change, now),
            change,
        });
    }
    for look in looks
        .values()
        .filter(|look| !matches!(look.coverage, Coverage::Nothing(_)))
    {
        let met = met.remove(&look.subject).unwrap_or_default();
        compared.extend(look.found.difference(&met).map(|key| Compared {
            finding: Known {
                subject: look.subject.clone(),
                key: key.clone(),
                first_seen: now,
                last_seen: now,
                open_since: now,
                times_seen: 1,
                times_back: 0,
                closed: None,
            },
            change: Change::New,
        }));
    }
    compared.sort_by(|a, b| (&a.finding.subject, &a.finding.key).cmp(&(&b.finding.subject, &b.finding.key)));
    compared
}

/// What became of a known finding; none: it was closed and is.
fn fate(finding: &Known, look: &Look, asked: Option<&String>) -> Option<Change> {
    let is_open = finding.closed.is_none();
    let not_looked = |why: &str| is_open.then(|| Change::NotLooked(why.into()));
    if let Coverage::Nothing(why) = &look.coverage {
        return not_looked(why);
    }
    if look.found.contains(&finding.key) {
        return Some(if is_open { Change::StillOpen } else { Change::CameBack });
    }
    let is_of_this_shape = finding.key.keys().eq(&look.columns);
    if !is_of_this_shape {
        // such a row can't be found by it any more, whatever it sees
        return is_open.then_some(Change::CheckChanged);
    }
    if look.pending.contains(&finding.key) {
        return not_looked("it is too young to tell: pending");
    }
    if let Coverage::Part(why) = &look.coverage {
        return not_looked(why);
    }
    let is_changed = asked.is_some_and(|asked| *asked != look.fingerprint);
    is_open.then_some(if is_changed {
        Change::CheckChanged
    } else {
        Change::Fixed
    })
}

fn after(mut finding: Known, change: &Change, now: Moment) -> Known {
    match change {
        Change::StillOpen => {}
        Change::CameBack => {
            finding.open_since = now;
            finding.times_back += 1;
            finding.closed = None;
        }
        Change::Fixed => finding.closed = Some((now, Closed::Fixed)),
        Change::CheckChanged => finding.closed = Some((now, Closed::CheckChanged)),
        Change::New | Change::NotLooked(_) => {}
    }
    if matches!(change, Change::StillOpen | Change::CameBack) {
        finding.last_seen = now;
        finding.times_seen += 1;
    }
    finding
}

#[cfg(test)]
mod tests;
