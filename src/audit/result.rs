//! What an audit has to say beside what its checks found.

use serde::Serialize;

use super::diff::{Key, Subject};
use super::{Moment, Waiver};

/// What is new, still open, fixed, and what nobody looked at.
///
/// `new`, `came_back` and `still_open` hold no waived findings: these are in `waived`.
#[derive(Clone, Debug, Serialize)]
pub struct AuditResult {
    /// The memory: a file, or `user@host:port/database`.
    pub state: String,
    /// When the last complete run before this one was, with any checks.
    pub last_run: Option<Moment>,
    /// Whether there is anything that the runs before didn't tell.
    pub changed: bool,
    /// How many.
    pub counts: AuditCounts,
    /// Each check, on each database.
    pub checks: Vec<AuditCheck>,
    /// Never seen before.
    pub new: Vec<AuditFinding>,
    /// They had been closed.
    pub came_back: Vec<AuditFinding>,
    /// They were open and still are.
    pub still_open: Vec<AuditFinding>,
    /// They were looked for and are gone.
    pub fixed: Vec<AuditFinding>,
    /// The check was changed, and no longer finds them.
    pub check_changed: Vec<AuditFinding>,
    /// They were open, and nobody looked.
    pub not_looked_at: Vec<AuditFinding>,
    /// Checks that were in this suite, are not any more, and have findings that are open.
    pub gone: Vec<Gone>,
    /// Somebody answers for them.
    pub waived: Vec<AuditFinding>,
    /// The waivers' file.
    pub waivers_file: Option<String>,
    /// Waivers whose last day is over, and that would cover something.
    pub waivers_expired: Vec<Waiver>,
    /// Waivers that cover nothing, although their checks were looked at.
    pub waivers_unused: Vec<Waiver>,
}

/// How many findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditCounts {
    /// Never seen before.
    pub new: usize,
    /// Back again.
    pub came_back: usize,
    /// All that are open and not waived: new, back, and still open.
    pub open: usize,
    /// Looked for and gone.
    pub fixed: usize,
    /// No longer found by a check that was changed.
    pub check_changed: usize,
    /// Open when they were last looked for.
    pub not_looked_at: usize,
    /// Open, and waived.
    pub waived: usize,
}

/// A check that is no longer in the suite: nobody will look at its findings any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Which, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// Its open findings.
    pub open: usize,
    /// Whether this is the first run without it.
    pub is_news: bool,
}

/// A check on a database.
#[derive(Clone, Debug, Serialize)]
pub struct AuditCheck {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// How many findings.
    pub counts: AuditCounts,
    /// Since when the oldest one is open that is not waived.
    pub oldest_open_since: Option<Moment>,
}

/// A finding, and what is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditFinding {
    /// Which check found it, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// What identifies it.
    pub key: Key,
    /// When it was seen for the first time.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
    /// Since when it is, or was, open without a break.
    pub open_since: Moment,
    /// In how many runs it was seen.
    pub times_seen: u64,
    /// How often it came back.
    pub times_back: u64,
    /// For how long it has been open, or was until it was closed, in seconds.
    pub open_s: u64,
    /// Why nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiver: Option<Waiver>,
}
