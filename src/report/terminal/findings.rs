//! The rows that break an invariant.

use std::io::{self, Write};

use super::{Paper, Table};
use crate::report::{Report, RoundResult};
use crate::verify::{CheckResult, Decision};

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, report: &Report) -> io::Result<()> {
    for check in &report.checks {
        one(paper, check, "")?;
    }
    let Some(race) = &report.race else { return Ok(()) };
    let mut shown: Vec<&str> = Vec::new();
    let rounds: Vec<&RoundResult> = race.rounds.iter().chain(&race.control).collect();
    // each check once: where it found the most
    for round in &rounds {
        for check in round.checks.iter().filter(|c| c.decision != Decision::Held) {
            if shown.contains(&check.id.as_str()) {
                continue;
            }
            shown.push(&check.id);
            let same = rounds
                .iter()
                .flat_map(|r| r.checks.iter().map(move |c| (*r, c)))
                .filter(|(_, c)| c.id == check.id);
            if let Some((round, check)) = same.rev().max_by_key(|(_, c)| c.count) {
                let when = match round.round {
                    0 => ", after the serial control".to_string(),
                    n => format!(", after round {n}"),
                };
                one(paper, check, &when)?;
            }
        }
    }
    Ok(())
}

fn one<W: Write>(paper: &mut Paper<'_, W>, check: &CheckResult, when: &str) -> io::Result<()> {
    match check.decision {
        Decision::Held | Decision::Skipped => return Ok(()),
        Decision::CouldNotDecide => {
            paper.title(&format!("{}: could not decide{when}", check.id))?;
            return paper.line(
                2,
                &format!("{} ({})", check.reason.as_deref().unwrap_or_default(), check.file),
            );
        }
        Decision::Violated | Decision::Pending => {}
    }
    let plus = if check.count_is_capped { "+" } else { "" };
    let rows = if check.count == 1 { "row" } else { "rows" };
    paper.title(&format!("{}: {}{plus} {rows}{when}", check.id, check.count))?;
    paper.line(2, &format!("{} ({})", check.title, check.file))?;
    let Some(first) = check.findings.first() else {
        return Ok(());
    };
    let titles: Vec<&str> = first.row.iter().map(|(column, _)| column.as_str()).collect();
    let mut table = Table::with_header(&titles);
    for finding in &check.findings {
        table.row(
            finding
                .row
                .iter()
                .map(|(_, value)| value.clone().unwrap_or_else(|| "NULL".into())),
        );
    }
    paper.table(4, table)?;
    let left = check.count - (check.findings.len() as u64).min(check.count);
    if left > 0 {
        paper.line(4, &format!("and {left}{plus} more"))?;
    }
    Ok(())
}
