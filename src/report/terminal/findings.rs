//! The rows that break an invariant.

use std::io::{self, Write};

use super::{Paper, Style, Table};
use crate::report::Report;
use crate::report::case::{database, when, worst_check};
use crate::report::escape::{value, visible};
use crate::verify::{CheckResult, Decision};

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, report: &Report) -> io::Result<()> {
    for check in &report.checks {
        let on = match report.databases.len() {
            0 | 1 => String::new(),
            _ => format!(" on {}", database(report, check)),
        };
        one(paper, check, &on)?;
    }
    let Some(race) = &report.race else { return Ok(()) };
    // each check once: where it found the most
    let mut shown: Vec<&str> = Vec::new();
    let found = race.rounds.iter().chain(&race.control).flat_map(|r| &r.checks);
    for check in found.filter(|c| c.decision != Decision::Held) {
        if shown.contains(&check.id.as_str()) {
            continue;
        }
        shown.push(&check.id);
        if let Some((round, check)) = worst_check(race, &check.id) {
            one(paper, check, &when(round))?;
        }
    }
    Ok(())
}

/// What a check found, as lines of text; nothing where it held.
pub(in crate::report) fn finding_text(check: &CheckResult, when: &str) -> String {
    let mut out = Vec::new();
    let style = Style::default();
    // a vector takes everything
    let _ = one(&mut Paper { out: &mut out, style }, check, when);
    String::from_utf8_lossy(&out).trim().to_string()
}

fn one<W: Write>(paper: &mut Paper<'_, W>, check: &CheckResult, when: &str) -> io::Result<()> {
    let reason = visible(check.reason.as_deref().unwrap_or("no reason given"));
    match check.decision {
        Decision::Held => return Ok(()),
        // its rule has the reason
        Decision::Skipped => return Ok(()),
        Decision::CouldNotDecide => {
            paper.title(&format!("{}: could not decide{when}", check.id))?;
            paper.line(2, &format!("{reason} ({}:{})", check.file, check.line.max(1)))?;
            return whom(paper, check);
        }
        Decision::Violated | Decision::Pending => {}
    }
    let rows = |n: u64| if n == 1 { "row" } else { "rows" };
    let plus = if check.count_is_capped { "+" } else { "" };
    let found = match check.decision {
        Decision::Pending => format!("{} {} pending", check.pending, rows(check.pending)),
        _ => format!("{}{plus} {}", check.count, rows(check.count)),
    };
    paper.title(&format!("{}: {found}{when}", check.id))?;
    paper.line(2, &format!("{} ({})", visible(&check.title), check.file))?;
    if let Some(first) = check.findings.first() {
        let mut titles: Vec<String> = first
            .row
            .iter()
            .map(|(column, _)| visible(column).into_owned())
            .collect();
        // where some are too young to tell, and some are not
        let is_mixed = check.decision == Decision::Violated && check.findings.iter().any(|f| f.pending);
        if is_mixed {
            titles.push(String::new());
        }
        let mut table = Table::with_header(&titles.iter().map(String::as_str).collect::<Vec<_>>());
        for finding in &check.findings {
            let mut cells: Vec<String> = finding.row.iter().map(|(_, text)| value(text.as_deref())).collect();
            if is_mixed {
                cells.push(if finding.pending { "pending" } else { "" }.into());
            }
            table.row(cells);
        }
        paper.table(4, table)?;
    }
    let shown = |pending: bool| check.findings.iter().filter(|f| f.pending == pending).count() as u64;
    let left = check.count.saturating_sub(shown(false));
    if left > 0 {
        paper.line(4, &format!("and {left}{plus} more"))?;
    }
    let left = check.pending.saturating_sub(shown(true));
    if left > 0 {
        let more = if shown(true) > 0 { " more" } else { "" };
        paper.line(4, &format!("and {left}{more} pending: too young to tell"))?;
    }
    whom(paper, check)
}

/// What to do, and whom to ask.
fn whom<W: Write>(paper: &mut Paper<'_, W>, check: &CheckResult) -> io::Result<()> {
    if let Some(remedy) = &check.remedy {
        paper.line(2, &format!("remedy: {}", visible(remedy)))?;
    }
    if let Some(owner) = &check.owner {
        paper.line(2, &format!("owner: {}", visible(owner)))?;
    }
    Ok(())
}
