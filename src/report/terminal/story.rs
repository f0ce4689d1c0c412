//! What a memory knows of a finding.

use std::io::{self, Write};
use std::time::Duration;

use super::audit::shown as shown_key;
use super::{Paper, Style, Table};
use crate::audit::{Event, Happened, Shown, ShownFinding, age};
use crate::report::escape::visible;

/// Writes findings with their stories.
///
/// # Errors
/// When the writer fails.
pub fn write_story(shown: &Shown, style: Style, out: &mut impl Write) -> io::Result<()> {
    let paper = &mut Paper { out, style };
    for (i, finding) in shown.findings.iter().enumerate() {
        if i > 0 {
            paper.blank()?;
        }
        let key = shown_key(&finding.key, &[], None);
        let subject = &finding.subject;
        let heading = format!("{} {key} on {}", subject.check, subject.database);
        paper.line(0, &visible(&heading))?;
        let mut table = Table::new();
        for (name, text) in facts(finding) {
            table.row([name.to_string(), text]);
        }
        paper.table(2, table)?;
        if !finding.history.is_empty() {
            paper.line(2, "history")?;
            let mut table = Table::new();
            for happened in &finding.history {
                table.row([happened.at.to_string(), word(happened)]);
            }
            paper.table(4, table)?;
        }
    }
    paper.blank()?;
    paper.line(0, &format!("memory: {}", shown.state))
}

fn facts(finding: &ShownFinding) -> Vec<(&'static str, String)> {
    let open = age(Duration::from_secs(finding.open_s));
    let state = match (finding.is, finding.closed_at) {
        ("check_changed", Some(at)) => {
            format!("no longer found since the check was changed, {at}; was open for {open}")
        }
        (is, Some(at)) => format!("{is} {at}; was open for {open}"),
        (is, None) => format!("{is} for {open}, since {}", finding.open_since),
    };
    let mut facts = vec![
        ("is", state),
        ("first seen", finding.first_seen.to_string()),
        ("last seen", finding.last_seen.to_string()),
        ("times seen", finding.times_seen.to_string()),
        ("came back", finding.times_back.to_string()),
    ];
    let row = finding.row.as_ref().map(|row| {
        let cells = row
            .iter()
            .map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or("NULL")));
        cells.collect::<Vec<_>>().join(" ")
    });
    facts.push((
        "row",
        row.unwrap_or_else(|| "not stored: no report has shown it".into()),
    ));
    if let Some(waiver) = &finding.waiver {
        let how = if finding.waiver_expired {
            "expired, was waived"
        } else {
            "waived"
        };
        let text = format!("{how} until {} by {}: {}", waiver.until, waiver.owner, waiver.reason);
        facts.push(("waiver", text));
    }
    facts
}

fn word(happened: &Happened) -> String {
    let word = match happened.what {
        Event::New => "new",
        Event::CameBack => "came back",
        Event::Fixed => "fixed",
        Event::CheckChanged => "no longer found since the check was changed",
        Event::Retired => "retired",
    };
    match &happened.why {
        Some(why) => format!("{word}: {why}"),
        None => word.into(),
    }
}
