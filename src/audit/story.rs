//! What became of a finding over time.

use serde::Serialize;

use super::diff::{Closed, Key, Known};
use super::{Moment, Subject, Waiver};

/// A violating row: its columns with their values, in order.
pub type Row = Vec<(String, Option<String>)>;

/// What can happen to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was seen for the first time.
    New,
    /// It had been closed, and was there again.
    CameBack,
    /// It was looked for and was gone.
    Fixed,
    /// The check was changed, and no longer found it.
    CheckChanged,
    /// Somebody has retired its check.
    Retired,
}

impl Event {
    const ALL: [Event; 5] = [
        Event::New,
        Event::CameBack,
        Event::Fixed,
        Event::CheckChanged,
        Event::Retired,
    ];

    /// As it is in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Event::New => "new",
            Event::CameBack => "came_back",
            Event::Fixed => Closed::Fixed.name(),
            Event::CheckChanged => Closed::CheckChanged.name(),
            Event::Retired => Closed::Retired.name(),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// Something that happened to a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When.
    pub at: Moment,
    /// What.
    pub what: Event,
    /// The reason that was given, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A finding as it is to be remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// What identifies it, and its figures.
    pub known: Known,
    /// What happened to it, where anything did.
    pub happened: Option<Happened>,
    /// Its row, where the report has it; none leaves the one that is stored.
    pub row: Option<Row>,
    /// The waiver that covers it.
    pub waiver: Option<Waiver>,
}

impl Kept {
    /// An open finding, retired.
    pub fn retired(known: Known, at: Moment, why: Option<String>) -> Kept {
        Kept {
            known: Known {
                closed: Some((at, Closed::Retired)),
                ..known
            },
            happened: Some(Happened {
                at,
                what: Event::Retired,
                why,
            }),
            row: None,
            waiver: None,
        }
    }
}

/// A finding with all that is remembered of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// What identifies it, and its figures.
    pub known: Known,
    /// Its row when a report last showed it, masked as there.
    pub row: Option<Row>,
    /// The waiver that covered it when it was last seen.
    pub waiver: Option<Waiver>,
    /// What happened to it, oldest first.
    pub history: Vec<Happened>,
}

/// Findings of a check that were retired at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// The check, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// When.
    pub at: Moment,
    /// The reason that was given.
    pub why: Option<String>,
    /// How many.
    pub findings: u64,
}

/// Findings, for who asks about them.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The version of the JSON form.
    pub schema: &'static str,
    /// The memory.
    pub state: String,
    /// The findings, by database and key.
    pub findings: Vec<ShownFinding>,
}

/// A finding, for who asks about it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownFinding {
    /// The check, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// What identifies it.
    pub key: Key,
    /// `open`, `fixed`, `check_changed` or `retired`.
    pub is: &'static str,
    /// When it was closed.
    pub closed_at: Option<Moment>,
    /// When it was seen for the first time.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
    /// Since when it is, or was, open without a break.
    pub open_since: Moment,
    /// For how long that is, in seconds.
    pub open_s: u64,
    /// In how many runs it was seen.
    pub times_seen: u64,
    /// How often it came back.
    pub times_back: u64,
    /// Its row when a report last showed it, masked as there.
    pub row: Option<Row>,
    /// The waiver that covered it when it was last seen.
    pub waiver: Option<Waiver>,
    /// Whether the waiver's last day is over.
    pub waiver_expired: bool,
    /// What happened to it, oldest first.
    pub history: Vec<Happened>,
}

/// Puts it together.
pub fn show(state: &str, stories: Vec<Story>, now: Moment) -> Shown {
    let one = |story: Story| {
        let Story {
            known,
            row,
            waiver,
            history,
        } = story;
        let until = known.closed.map_or(now, |(at, _)| at);
        ShownFinding {
            is: known.closed.map_or("open", |(_, why)| why.name()),
            closed_at: known.closed.map(|(at, _)| at),
            first_seen: known.first_seen,
            last_seen: known.last_seen,
            open_since: known.open_since,
            open_s: until.since(known.open_since).as_secs(),
            times_seen: known.times_seen,
            times_back: known.times_back,
            waiver_expired: waiver.as_ref().is_some_and(|waiver| waiver.is_expired(now)),
            subject: known.subject,
            key: known.key,
            row,
            waiver,
            history,
        }
    };
    Shown {
        schema: "db-race/finding/1",
        state: state.into(),
        findings: stories.into_iter().map(one).collect(),
    }
}
