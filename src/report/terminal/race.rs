//! The sections of a race: winners, outcomes, groups, how they met, waits, deadlocks, pools, latency.

use std::io::{self, Write};
use std::time::Duration;

use super::{Paper, Table, groups, locks, pool};
use crate::outcome::Outcome;
use crate::report::{Race, Reason, RoundResult, StepResult, Times, WaveResult};
use crate::scenario::Figure;
use crate::verdict::{name_key, show_time};

/// Keys and reasons that are listed; the JSON form has all.
const LISTED: usize = 8;
/// Errors of which all is told.
const EXPLAINED: usize = 3;
/// Calls that are named of the stack in which an error was raised, innermost first.
const CONTEXT_LINES: usize = 4;
/// Winners that are named for a key.
const NAMED: usize = 3;

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    winners(paper, race)?;
    outcomes(paper, race)?;
    groups::write(paper, race)?;
    meeting(paper, race)?;
    locks::write(paper, race)?;
    for one in &race.pools {
        pool::write(paper, one)?;
    }
    latency(paper, race)
}

/// The round with the most winners on a key: the worst one where a rule about winners is broken.
fn telling_round(race: &Race) -> Option<&RoundResult> {
    let most = |r: &RoundResult| r.keys.iter().map(|k| k.winners.len()).max();
    // of equals the last one is taken: the first round
    race.rounds.iter().rev().max_by_key(|r| most(r))
}

fn winners<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let Some(round) = telling_round(race) else {
        return Ok(());
    };
    if race.key_columns.is_empty() || round.keys_found == 0 {
        return Ok(());
    }
    paper.title(&format!("Winners, round {} of {}", round.round, race.rounds_planned))?;
    let mut table = Table::with_header(&["key", ">attempts", ">accepted", "by"]);
    let mut keys: Vec<_> = round.keys.iter().collect();
    keys.sort_by_key(|k| std::cmp::Reverse(k.winners.len()));
    for key in keys.iter().take(LISTED) {
        let mut by = key.winners.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        // those beyond a hundred are counted, and not remembered
        if key.outcomes.accepted > NAMED as u64 {
            by.push_str(&format!(" and {} more", key.outcomes.accepted - NAMED as u64));
        }
        table.row([
            name_key(&race.key_columns, &key.key),
            key.outcomes.total().to_string(),
            key.outcomes.accepted.to_string(),
            by,
        ]);
    }
    paper.table(2, table)?;
    more(paper, keys.len(), "keys")
}

fn more<W: Write>(paper: &mut Paper<'_, W>, of: usize, what: &str) -> io::Result<()> {
    match of.checked_sub(LISTED) {
        Some(n) if n > 0 => paper.line(2, &format!("and {n} more {what}")),
        _ => Ok(()),
    }
}

fn outcomes<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let total = race.attempts.total();
    if total == 0 {
        return Ok(());
    }
    let n = race.rounds.len();
    let tries: u64 = race.group_results.iter().map(|g| g.tries).sum();
    let retried = match tries > total {
        true => format!(" ({tries} tries)"),
        false => String::new(),
    };
    paper.title(&format!(
        "Outcomes of {total} attempts{retried} in {n} {}",
        if n == 1 { "round" } else { "rounds" }
    ))?;
    let counts: Vec<String> = Outcome::ALL
        .into_iter()
        .filter(|o| race.attempts.get(*o) > 0)
        .map(|o| format!("{} {}", race.attempts.get(o), o.name().replace('_', " ")))
        .collect();
    paper.line(2, &counts.join(", "))?;
    let mut table = Table::with_header(&[">count", "step", "outcome", "SQLSTATE", "what the server said"]);
    for reason in race.reasons.iter().take(LISTED) {
        let mut message = reason.message.clone();
        if let Some(constraint) = &reason.constraint {
            message.push_str(&format!(" [{constraint}]"));
        }
        table.row([
            reason.count.to_string(),
            reason.step.clone().unwrap_or_else(|| "(pool)".into()),
            reason.outcome.to_string(),
            reason.sqlstate.clone().unwrap_or_default(),
            message,
        ]);
    }
    if !table.is_empty() {
        paper.table(2, table)?;
        more(paper, race.reasons.len(), "kinds")?;
    }
    // of what nobody expected people want to know all
    let errors = race.reasons.iter().take(LISTED).filter(|r| r.outcome == "error");
    for reason in errors.take(EXPLAINED) {
        let lines = explained(reason);
        if !lines.is_empty() {
            let code = reason.sqlstate.as_deref().unwrap_or("error");
            let step = reason.step.as_deref().unwrap_or("(pool)");
            paper.line(2, &format!("{code} in {step}:"))?;
        }
        for line in lines {
            paper.line(4, &line)?;
        }
    }
    Ok(())
}

/// What the server said of an error beside its message.
fn explained(reason: &Reason) -> Vec<String> {
    let field = |name: &str| reason.fields.get(name).map(String::as_str);
    let mut lines = Vec::new();
    lines.extend(reason.detail.as_ref().map(|detail| format!("detail: {detail}")));
    lines.extend(field("hint").map(|hint| format!("hint: {hint}")));
    let table = match (field("schema"), field("table")) {
        (Some(schema), Some(table)) => Some(format!("table {schema}.{table}")),
        (None, Some(table)) => Some(format!("table {table}")),
        (Some(schema), None) => Some(format!("schema {schema}")),
        (None, None) => None,
    };
    let column = field("column").map(|c| format!("column {c}"));
    let datatype = field("datatype").map(|t| format!("type {t}"));
    let of: Vec<String> = [table, column, datatype].into_iter().flatten().collect();
    if !of.is_empty() {
        lines.push(format!("of: {}", of.join(", ")));
    }
    let context = reason.context.iter().flat_map(|c| c.lines());
    lines.extend(context.take(CONTEXT_LINES).map(|line| format!("in {line}")));
    lines
}

fn meeting<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    if race.rounds.is_empty() {
        return Ok(());
    }
    paper.title("How they met")?;
    let overlapping: u64 = race.rounds.iter().map(|r| r.overlapping).sum();
    let interrupted: u64 = race.rounds.iter().map(|r| r.interrupted).sum();
    let total = race.attempts.total() + interrupted;
    paper.line(
        2,
        &format!("{overlapping} of {total} attempts were in flight with another one on the same key"),
    )?;
    let waves: Vec<&WaveResult> = race.rounds.iter().flat_map(|r| &r.waves).collect();
    if let Some(first) = waves.first() {
        let sum = |of: fn(&WaveResult) -> usize| waves.iter().map(|w| of(w)).sum::<usize>();
        let (released, held, behind) = (sum(|w| w.sessions), sum(|w| w.held), sum(|w| w.behind_others));
        let longest = waves.iter().map(|w| w.closed_ms).fold(0.0, f64::max);
        let closes_tables = first.gate != "start";
        let mut text = format!(
            "{} gate, {} {}: {held} of {released} sessions stood when it opened",
            first.gate,
            waves.len(),
            if waves.len() == 1 { "wave" } else { "waves" }
        );
        if closes_tables {
            let free = held - behind.min(held);
            text.push_str(&format!(
                ": {free} had read and were about to write, {behind} stood behind a lock of another one"
            ));
        }
        if first.held_at_commit.is_some() {
            let held = sum(|w| w.held_at_commit.unwrap_or(0));
            let behind = sum(|w| w.behind_others_at_commit.unwrap_or(0));
            let free = held - behind.min(held);
            text.push_str(&format!(
                "; then {free} had written and were about to commit, {behind} stood behind a lock of another one"
            ));
        }
        text.push_str(&format!(" (closed for {longest:.0} ms at most)"));
        paper.line(2, &text)?;
        if closes_tables {
            paper.line(2, &format!("closed tables: {}", race.gate_tables.join(", ")))?;
        }
        if let Some(skew) = waves.iter().filter_map(|w| w.skew_us).max() {
            let skew = show_time(Duration::from_micros(skew));
            paper.line(2, &format!("first to last start: {skew} at most"))?;
        }
    }
    Ok(())
}

fn latency<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let mut header = vec!["step", ">count", ">min", ">avg", ">med", ">p95", ">p99", ">max"];
    let any_blocked = race.steps.iter().any(|s| s.blocked_ms > 0.0);
    if any_blocked {
        header.push(">blocked");
    }
    let mut table = Table::with_header(&header);
    for step in race.steps.iter().filter(|s| s.latency.count() > 0) {
        let figure = |f| times(&step.latency, f);
        let mut row = vec![
            step.step.clone(),
            step.latency.count().to_string(),
            figure(Figure::Min),
            figure(Figure::Avg),
            figure(Figure::Percentile(50.0)),
            figure(Figure::Percentile(95.0)),
            figure(Figure::Percentile(99.0)),
            figure(Figure::Max),
        ];
        if any_blocked {
            row.push(blocked(step));
        }
        table.row(row);
    }
    if table.is_empty() {
        return Ok(());
    }
    let gated = race.groups.iter().any(|g| g.gate != "none");
    paper.title(if gated {
        "Latency of steps, from the opening of the gate"
    } else {
        "Latency of steps"
    })?;
    paper.table(2, table)
}

/// The part of the time that was spent waiting for locks.
fn blocked(step: &StepResult) -> String {
    let total = step.blocked_ms + step.running_ms;
    match step.blocked_ms {
        ms if ms > 0.0 => format!("{:.0}%", ms / total * 100.0),
        _ => String::new(),
    }
}

fn times(times: &Times, figure: Figure) -> String {
    times.figure(figure).map_or(String::new(), show_time)
}
