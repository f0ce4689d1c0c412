//! What is new, still open, fixed, and what a memory tells of the past.

use std::io::{self, Write};
use std::time::Duration;

use super::{Paper, Style, Table};
use crate::audit::history::{History, Trend};
use crate::audit::{AuditFinding, AuditResult, Gone, Key, Subject, Waiver, age};
use crate::report::Report;
use crate::verify::{Decision, Finding};

/// Findings shown of each check and kind.
const SHOWN_MAX: usize = 10;
/// Runs shown.
const RUNS_MAX: usize = 10;

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, report: &Report, audit: &AuditResult) -> io::Result<()> {
    let several = report.databases.len() > 1;
    for check in report.checks.iter().filter(|c| c.decision == Decision::CouldNotDecide) {
        paper.title(&format!("{}: could not decide", check.id))?;
        paper.line(
            2,
            &format!("{} ({})", check.reason.as_deref().unwrap_or_default(), check.file),
        )?;
    }
    let line = |finding: &AuditFinding| {
        let same = |found: &&Finding, key: &[String]| {
            key.iter()
                .zip(&found.key)
                .all(|(column, value)| finding.key.get(column) == Some(value))
        };
        let check = report.checks.iter().find(|check| {
            let database = report.databases.get(check.database).map(crate::audit::database_name);
            check.id == finding.subject.check && database.as_ref() == Some(&finding.subject.database)
        });
        let Some(check) = check else {
            return shown(&finding.key, &[], None);
        };
        let found = check
            .findings
            .iter()
            .find(|found| !found.pending && same(found, &check.key));
        shown(&finding.key, &check.key, found.map(|found| &found.row))
    };
    let kinds: [(&str, &[AuditFinding]); 7] = [
        ("new", &audit.new),
        ("came back", &audit.came_back),
        ("still open", &audit.still_open),
        ("fixed", &audit.fixed),
        ("no longer found since the check was changed", &audit.check_changed),
        ("not looked at", &audit.not_looked_at),
        ("waived", &audit.waived),
    ];
    for (kind, findings) in kinds.into_iter().filter(|(_, findings)| !findings.is_empty()) {
        paper.title(&format!("{kind}: {}", findings.len()))?;
        for group in findings.chunk_by(|a, b| a.subject == b.subject && a.why == b.why) {
            let subject = named(&group[0].subject, several);
            match &group[0].why {
                // one line is enough for what nobody knows
                Some(why) => paper.line(2, &format!("{subject}: {} ({why})", group.len()))?,
                None => {
                    paper.line(2, &subject)?;
                    let mut table = Table::new();
                    for finding in group.iter().take(SHOWN_MAX) {
                        table.row([line(finding), told(kind, finding)]);
                    }
                    paper.table(4, table)?;
                    if group.len() > SHOWN_MAX {
                        paper.line(4, &format!("and {} more", group.len() - SHOWN_MAX))?;
                    }
                }
            }
        }
    }
    waivers(
        paper,
        audit,
        "expired waivers, which no longer count",
        &audit.waivers_expired,
    )?;
    waivers(paper, audit, "waivers that cover nothing", &audit.waivers_unused)?;
    paper.blank()?;
    if !audit.gone.is_empty() {
        let one = |gone: &Gone| format!("{} ({} open)", named(&gone.subject, several), gone.open);
        let checks: Vec<String> = audit.gone.iter().map(one).collect();
        paper.line(
            0,
            &format!(
                "no longer in the suite: {}; if nobody is to look at them again: db-race audit retire CHECK",
                checks.join(", ")
            ),
        )?;
    }
    let last = match audit.last_run {
        Some(at) => format!("the last complete run was at {at}"),
        None => "this is its first complete run".into(),
    };
    paper.line(0, &format!("memory: {}; {last}", audit.state))
}

fn waivers<W: Write>(paper: &mut Paper<'_, W>, audit: &AuditResult, title: &str, list: &[Waiver]) -> io::Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    paper.title(&format!("{title}: {}", list.len()))?;
    let file = audit.waivers_file.as_deref().unwrap_or_default();
    let mut table = Table::new();
    for waiver in list {
        let key: String = waiver
            .key
            .iter()
            .map(|(column, value)| format!(" {column}={value}"))
            .collect();
        let place = format!("{file}:{}", waiver.line);
        table.row([
            place,
            format!("{}{key}", waiver.check),
            format!("until {}, {}", waiver.until, waiver.owner),
        ]);
    }
    paper.table(2, table)
}

fn named(subject: &Subject, several: bool) -> String {
    match several {
        true => format!("{} on {}", subject.check, subject.database),
        false => subject.check.clone(),
    }
}

type Row = Vec<(String, Option<String>)>;

/// The key, in the check's order where that is known, then what else the row has.
pub(super) fn shown(key: &Key, order: &[String], row: Option<&Row>) -> String {
    let pair = |(column, value): (&String, &Option<String>)| format!("{column}={}", value.as_deref().unwrap_or("NULL"));
    let place = |column: &String| order.iter().position(|c| c == column).unwrap_or(order.len());
    let mut columns: Vec<(&String, &Option<String>)> = key.iter().collect();
    columns.sort_by_key(|(column, _)| place(column));
    let mut parts: Vec<String> = columns.into_iter().map(pair).collect();
    if parts.is_empty() {
        parts.push("(the check has no key)".into());
    }
    let rest = row
        .into_iter()
        .flatten()
        .filter(|(column, _)| !key.contains_key(column));
    parts.extend(rest.map(|(column, value)| pair((column, value))));
    parts.join(" ")
}

fn told(kind: &str, finding: &AuditFinding) -> String {
    let open = age(Duration::from_secs(finding.open_s));
    let times = match finding.times_seen {
        1 => "seen once".to_string(),
        n => format!("seen {n} times"),
    };
    let back = match finding.times_back {
        0 => String::new(),
        1 => ", came back once".into(),
        n => format!(", came back {n} times"),
    };
    match (kind, &finding.waiver) {
        (_, Some(waiver)) => format!("until {} by {}: {}", waiver.until, waiver.owner, waiver.reason),
        ("new", _) => String::new(),
        ("came back", _) => format!("first seen {}{back}", finding.first_seen),
        ("still open", _) => format!("open for {open}, {times}{back}"),
        _ => format!("was open for {open}, {times}{back}"),
    }
}

/// Writes what a memory tells of the past.
///
/// # Errors
/// When the writer fails.
pub fn write_history(history: &History, style: Style, out: &mut impl Write) -> io::Result<()> {
    let paper = &mut Paper { out, style };
    let n = history.runs.len();
    let complete = history.runs.iter().filter(|run| run.complete).count();
    let runs = if n == 1 { "run" } else { "runs" };
    paper.line(
        0,
        &format!(
            "{n} {runs} since {}, {complete} of them complete ({})",
            history.since, history.state
        ),
    )?;
    let several = history
        .checks
        .windows(2)
        .any(|pair| pair[0].subject.database != pair[1].subject.database);
    if !history.checks.is_empty() {
        paper.title("checks")?;
        let mut table = Table::with_header(&[
            "check",
            "open, oldest run first",
            ">now",
            ">most",
            ">came",
            ">fixed",
            "",
        ]);
        for check in &history.checks {
            table.row(trend(check, several));
        }
        paper.table(2, table)?;
    }
    if !history.open.is_empty() {
        paper.title(&format!("open findings: {}", history.open.len()))?;
        let mut table = Table::with_header(&["check", "key", "open for", "first seen", ">seen", ">came back"]);
        for open in &history.open {
            table.row([
                named(&open.subject, several),
                shown(&open.key, &[], None),
                age(Duration::from_secs(open.open_s)),
                open.first_seen.to_string(),
                open.times_seen.to_string(),
                open.times_back.to_string(),
            ]);
        }
        paper.table(2, table)?;
    }
    if !history.retired.is_empty() {
        paper.title("retired")?;
        let mut table = Table::with_header(&["check", ">findings", "at", "why"]);
        for retired in &history.retired {
            table.row([
                named(&retired.subject, several),
                retired.findings.to_string(),
                retired.at.to_string(),
                retired.why.clone().unwrap_or_default(),
            ]);
        }
        paper.table(2, table)?;
    }
    if !history.runs.is_empty() {
        paper.title(&format!("runs{}", if n > RUNS_MAX { ", the last 10" } else { "" }))?;
        let mut table = Table::with_header(&["began", "", ">exit code", ">new", ">back", ">open", ">fixed", ">took"]);
        for run in history.runs.iter().skip(n.saturating_sub(RUNS_MAX)) {
            let how = match (run.ended_at, run.exit_code) {
                (None, _) => "did not end",
                (_, Some(code)) => crate::audit::history::ending(code),
                _ => "",
            };
            let figure = |n: usize| if run.complete { n.to_string() } else { String::new() };
            table.row([
                run.started_at.to_string(),
                how.into(),
                run.exit_code.map(|code| code.to_string()).unwrap_or_default(),
                figure(run.counts.new),
                figure(run.counts.came_back),
                figure(run.counts.open),
                figure(run.counts.fixed),
                run.duration_ms
                    .map(|ms| format!("{:.1} s", ms as f64 / 1e3))
                    .unwrap_or_default(),
            ]);
        }
        paper.table(2, table)?;
    }
    Ok(())
}

fn trend(check: &Trend, several: bool) -> [String; 7] {
    [
        named(&check.subject, several),
        check.sparkline.clone(),
        check.open.to_string(),
        check.open_max.to_string(),
        check.came.to_string(),
        check.fixed.to_string(),
        match check.undecided {
            0 => String::new(),
            n => format!("not decided {n} of {} times", check.runs),
        },
    ]
}
