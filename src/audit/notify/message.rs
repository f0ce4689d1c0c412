//! What is told: a short text for people, and the same with its parts for programs.

use serde::Serialize;

use crate::audit::{AuditCounts, AuditFinding, AuditResult, age};
use crate::verdict::Judged;

/// Findings of each kind that a message has.
const FINDINGS_MAX: usize = 20;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The audit's name.
    pub name: &'a str,
    /// Its exit code.
    pub exit_code: u8,
    /// What it came to; none when it came to nothing.
    pub outcome: Option<Judged>,
    /// The databases it looked at, or wanted to.
    pub databases: Vec<String>,
    /// When it began; RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// What it saw; none when it came to nothing.
    pub audit: Option<&'a AuditResult>,
    /// What kept it from deciding, of each check that is not decided, or of the whole run.
    pub problems: Vec<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    text: String,
    schema: &'static str,
    name: &'a str,
    outcome: &'static str,
    exit_code: u8,
    databases: &'a [String],
    started_at: &'a str,
    duration_ms: u64,
    changed: bool,
    counts: AuditCounts,
    new: &'a [AuditFinding],
    came_back: &'a [AuditFinding],
    fixed: &'a [AuditFinding],
    problems: &'a [String],
}

/// The JSON body of a webhook. Of each kind it has the first 20 findings; `counts` has all.
pub fn body(message: &Message<'_>) -> String {
    let none = AuditCounts::default();
    let first = |of: fn(&AuditResult) -> &Vec<AuditFinding>| {
        message
            .audit
            .map_or(&[][..], |audit| &of(audit)[..of(audit).len().min(FINDINGS_MAX)])
    };
    let body = Body {
        text: summary(message),
        schema: "db-race/audit-webhook/1",
        name: message.name,
        outcome: outcome(message),
        exit_code: message.exit_code,
        databases: &message.databases,
        started_at: &message.started_at,
        duration_ms: message.duration_ms,
        changed: message.audit.is_none_or(|audit| audit.changed),
        counts: message.audit.map_or(none, |audit| audit.counts),
        new: first(|a| &a.new),
        came_back: first(|a| &a.came_back),
        fixed: first(|a| &a.fixed),
        problems: &message.problems,
    };
    // strings and numbers can't fail to be written
    serde_json::to_string(&body).unwrap_or_default()
}

fn outcome(message: &Message<'_>) -> &'static str {
    match message.outcome {
        Some(Judged::Passed) => "passed",
        Some(Judged::Warned) => "warned",
        Some(Judged::Failed) => "failed",
        Some(Judged::Inconclusive) => "inconclusive",
        Some(Judged::Interrupted) => "interrupted",
        None if message.exit_code == 130 => "interrupted",
        None => "not_run",
    }
}

/// A few lines: what it came to, and what is new.
pub fn summary(message: &Message<'_>) -> String {
    let word = outcome(message).replace('_', " ").to_uppercase();
    let mut text = format!("db-race {}: {word}", message.name);
    if let Some(audit) = message.audit {
        text.push_str(&format!(": {}", counted(&audit.counts)));
    }
    if !message.databases.is_empty() {
        text.push_str(&format!(" ({})", message.databases.join(", ")));
    }
    text.push('\n');
    for problem in &message.problems {
        text.push_str(&format!("{problem}\n"));
    }
    let Some(audit) = message.audit else { return text };
    let kinds = [
        ("new", &audit.new),
        ("came back", &audit.came_back),
        ("fixed", &audit.fixed),
        ("no longer found since the check was changed", &audit.check_changed),
        ("still open", &audit.still_open),
    ];
    for (kind, findings) in kinds {
        for finding in findings.iter().take(FINDINGS_MAX) {
            text.push_str(&format!("{kind}: {}\n", line(finding, kind)));
        }
        if findings.len() > FINDINGS_MAX {
            text.push_str(&format!("{kind}: and {} more\n", findings.len() - FINDINGS_MAX));
        }
    }
    text
}

/// `2 new, 1 came back, 3 open, 1 fixed`
fn counted(counts: &AuditCounts) -> String {
    let mut parts = vec![format!("{} new", counts.new)];
    let others = [
        (counts.came_back, "came back"),
        (counts.open, "open"),
        (counts.fixed, "fixed"),
        (counts.check_changed, "no longer found by changed checks"),
        (counts.not_looked_at, "not looked at"),
        (counts.waived, "waived"),
    ];
    let told = |(n, word): &(usize, &str)| *n > 0 || ["open", "fixed"].contains(word);
    parts.extend(others.iter().filter(|o| told(o)).map(|(n, word)| format!("{n} {word}")));
    parts.join(", ")
}

fn line(finding: &AuditFinding, kind: &str) -> String {
    let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "NULL".into());
    let key = finding.key.iter().map(|(column, v)| format!(" {column}={}", value(v)));
    let key: String = key.collect();
    let aged = age(std::time::Duration::from_secs(finding.open_s));
    let since = match kind {
        "new" | "came back" => String::new(),
        "fixed" => format!(", was open for {aged}"),
        _ => format!(", open for {aged}"),
    };
    format!("{}{key}{since}", finding.subject.check)
}
