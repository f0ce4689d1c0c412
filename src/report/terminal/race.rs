//! The sections of a race: winners, outcomes, how they met, waits, deadlocks, pool, latency.

use std::io::{self, Write};
use std::time::Duration;

use super::{Paper, Table, pool};
use crate::outcome::Outcome;
use crate::report::{Race, RoundResult, Times, WaveResult};
use crate::scenario::Figure;
use crate::verdict::{name_key, show_time};
use crate::watch::{Deadlock, Member};

/// Keys, reasons and deadlocks that are listed; the JSON form has all.
const LISTED: usize = 8;
/// Winners that are named for a key.
const NAMED: usize = 3;

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    winners(paper, race)?;
    outcomes(paper, race)?;
    meeting(paper, race)?;
    deadlocks(paper, race)?;
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
        if key.winners.len() > NAMED {
            by.push_str(&format!(" and {} more", key.winners.len() - NAMED));
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
    paper.title(&format!(
        "Outcomes of {total} attempts in {n} {}",
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
    Ok(())
}

fn meeting<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    if race.rounds.is_empty() {
        return Ok(());
    }
    paper.title("How they met")?;
    let overlapping: u64 = race.rounds.iter().map(|r| r.overlapping).sum();
    let total = race.attempts.total();
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
    let mut table = Table::with_header(&["lock waits on", ">seen", ">in all", ">longest", "behind"]);
    for waits in race.lock_waits.iter().take(LISTED) {
        let behind = waits.behind.iter().take(NAMED).map(|(who, n)| format!("{who} ({n})"));
        table.row([
            waits.relation.clone().unwrap_or_else(|| "(no table shown)".into()),
            waits.waits.to_string(),
            format!("{:.0} ms", waits.total_ms),
            format!("{:.0} ms", waits.max_ms),
            behind.collect::<Vec<_>>().join(", "),
        ]);
    }
    if table.is_empty() {
        paper.line(
            2,
            &format!("no lock wait was seen outside the gate, in {} samples", race.samples),
        )?;
    } else {
        paper.table(2, table)?;
    }
    Ok(())
}

fn deadlocks<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let met: u64 = race.rounds.iter().map(|r| r.deadlocks).sum();
    let server = race.server_deadlocks.unwrap_or(0);
    if met == 0 && server == 0 {
        return Ok(());
    }
    let counted = match race.server_deadlocks {
        Some(n) if n as u64 == met => "the server's counter agrees".to_string(),
        Some(n) => format!("the server counted {n}, and sessions outside the race may have had some"),
        None => "the server's counter could not be read".into(),
    };
    paper.title(&format!("Deadlocks: {met} ({counted})"))?;
    for deadlock in race.deadlocks.iter().take(LISTED) {
        cycle(paper, deadlock)?;
    }
    more(paper, race.deadlocks.len(), "kinds of cycles")
}

fn cycle<W: Write>(paper: &mut Paper<'_, W>, deadlock: &Deadlock) -> io::Result<()> {
    let times = match deadlock.count {
        1 => format!("in round {}", deadlock.round),
        n => format!("one of {n} alike, in round {}", deadlock.round),
    };
    paper.line(2, &format!("a cycle of {}, {times}:", deadlock.cycle.len()))?;
    for member in &deadlock.cycle {
        let step = member.step.as_ref().map(|s| format!(" in {s}")).unwrap_or_default();
        let blocker = deadlock.cycle.iter().find(|m| m.pid == member.blocked_by);
        let blocker = blocker.map_or_else(|| format!("process {}", member.blocked_by), name);
        let row = match (&member.relation, &member.row) {
            (Some(relation), Some(row)) => format!(", for row {row} of {relation}"),
            (Some(relation), None) => format!(", in {relation}"),
            _ => String::new(),
        };
        let fate = if member.victim { "; the server ended it" } else { "" };
        paper.line(
            4,
            &format!(
                "{}{step} waits for {blocker}{row} ({}){fate}",
                name(member),
                member.waits_for
            ),
        )?;
        if let Some(statement) = &member.statement {
            paper.line(8, &statement.split_whitespace().collect::<Vec<_>>().join(" "))?;
        }
        if !member.parameters.is_empty() {
            let pair = |(n, v): &(String, Option<String>)| format!(":{n} = {}", v.as_deref().unwrap_or("NULL"));
            paper.line(
                8,
                &format!(
                    "with {}",
                    member.parameters.iter().map(pair).collect::<Vec<_>>().join(", ")
                ),
            )?;
        }
        for at in &member.at {
            paper.line(8, &format!("at {at}"))?;
        }
    }
    Ok(())
}

fn name(member: &Member) -> String {
    member
        .session
        .clone()
        .unwrap_or_else(|| format!("process {}", member.pid))
}

fn latency<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let mut table = Table::with_header(&["step", ">count", ">min", ">avg", ">med", ">p95", ">p99", ">max"]);
    for step in race.steps.iter().filter(|s| s.latency.count() > 0) {
        let figure = |f| times(&step.latency, f);
        table.row([
            step.step.clone(),
            step.latency.count().to_string(),
            figure(Figure::Min),
            figure(Figure::Avg),
            figure(Figure::Percentile(50.0)),
            figure(Figure::Percentile(95.0)),
            figure(Figure::Percentile(99.0)),
            figure(Figure::Max),
        ]);
    }
    if table.is_empty() {
        return Ok(());
    }
    let gated = race.groups.iter().any(|g| g.gate != "none");
    paper.title(if gated {
        "Latency, from the opening of the gate"
    } else {
        "Latency"
    })?;
    paper.table(2, table)
}

fn times(times: &Times, figure: Figure) -> String {
    times.figure(figure).map_or(String::new(), show_time)
}
