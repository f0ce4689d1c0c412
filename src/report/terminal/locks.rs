//! Waits for locks, and deadlocks.

use std::io::{self, Write};

use super::{Paper, Table};
use crate::report::Race;
use crate::watch::{Deadlock, Held, Holder, LockWaits, Member, Mistake};

/// Locks and deadlocks that are listed; the JSON form has all.
const LISTED: usize = 8;
/// Holders that are named for a lock.
const NAMED: usize = 3;

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    if race.rounds.is_empty() {
        return Ok(());
    }
    waits(paper, race)?;
    deadlocks(paper, race)
}

fn waits<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    paper.title("Lock waits")?;
    let cost = watcher(race);
    if race.lock_waits.is_empty() {
        return paper.line(2, &format!("no lock wait was seen outside the gate; {cost}"));
    }
    let mut table = Table::with_header(&[
        "lock waits on",
        "lock",
        ">seen",
        ">in all",
        ">longest",
        ">queue",
        "behind",
    ]);
    for waits in race.lock_waits.iter().take(LISTED) {
        table.row([
            object(waits.relation.as_ref(), waits.key.as_ref()),
            waits.lock.clone().unwrap_or_default(),
            waits.waits.to_string(),
            format!("{:.0} ms", waits.total_ms),
            format!("{:.0} ms", waits.max_ms),
            waits.longest_queue.to_string(),
            behind(&waits.behind),
        ]);
    }
    paper.table(2, table)?;
    more(paper, race.lock_waits.len(), "locks")?;
    if let Some(text) = idle(&race.lock_waits) {
        paper.line(2, &text)?;
    }
    paper.line(2, &cost)
}

fn behind(holders: &[Holder]) -> String {
    let name = |h: &Holder| match &h.doing {
        Some(doing) => format!("{} {doing} ({})", h.who, h.waits),
        None => format!("{} ({})", h.who, h.waits),
    };
    let mut text = holders.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if holders.len() > NAMED {
        text.push_str(&format!(" and {} more", holders.len() - NAMED));
    }
    text
}

/// A transaction that is open while nobody works in it makes others wait for nothing.
fn idle(all: &[LockWaits]) -> Option<String> {
    let idle: f64 = all.iter().map(|w| w.idle_in_transaction_ms).sum();
    let total: f64 = all.iter().map(|w| w.total_ms).sum();
    (idle > 0.0).then(|| {
        format!(
            "in {} of the time waited, the holder was idle in transaction",
            percent(idle, total)
        )
    })
}

fn watcher(race: &Race) -> String {
    let raced: f64 = race.rounds.iter().map(|r| r.duration_ms).sum();
    let samples = match race.samples {
        1 => "1 sample".to_string(),
        n => format!("{n} samples"),
    };
    format!(
        "the watcher took {samples}, {} of the time",
        percent(race.samples_ms, raced)
    )
}

fn percent(part: f64, whole: f64) -> String {
    let percent = if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    match percent {
        p if p >= 10.0 => format!("{p:.0}%"),
        p => format!("{p:.1}%"),
    }
}

/// `room id = 7`.
fn object(relation: Option<&String>, row: Option<&String>) -> String {
    match (relation, row) {
        (Some(relation), Some(row)) => format!("{relation} {row}"),
        (Some(relation), None) => relation.clone(),
        _ => "(no table shown)".into(),
    }
}

fn more<W: Write>(paper: &mut Paper<'_, W>, of: usize, what: &str) -> io::Result<()> {
    match of.checked_sub(LISTED) {
        Some(n) if n > 0 => paper.line(2, &format!("and {n} more {what}")),
        _ => Ok(()),
    }
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
    let mistake = match deadlock.mistake {
        Mistake::Unknown => String::new(),
        mistake => format!("{}: ", mistake.name()),
    };
    let size = deadlock.cycle.len();
    paper.line(2, &format!("{mistake}a cycle of {size}, {times}:"))?;
    if let Some(orders) = orders(deadlock) {
        paper.table(4, orders)?;
    }
    if let Some(advice) = &deadlock.advice {
        paper.line(4, advice)?;
    }
    for member in &deadlock.cycle {
        one(paper, deadlock, member)?;
    }
    Ok(())
}

/// Who held what and wanted what, side by side.
fn orders(deadlock: &Deadlock) -> Option<Table> {
    let mut table = Table::with_header(&["session", "holds", "then wants"]);
    for member in &deadlock.cycle {
        let wants = wanted(member)?;
        let holds: Vec<String> = member.holds.iter().map(held).collect();
        table.row([name(member), holds.join(", "), wants]);
    }
    Some(table)
}

fn held(held: &Held) -> String {
    let object = object(held.relation.as_ref(), held.key.as_ref().or(held.row.as_ref()));
    match (&held.lock, held.by_reference) {
        (Some(lock), true) if lock == "FOR KEY SHARE" => format!("{object} ({lock}, by a foreign key)"),
        (Some(lock), _) => format!("{object} ({lock})"),
        (None, _) => object,
    }
}

fn wanted(member: &Member) -> Option<String> {
    let object = object(
        Some(member.relation.as_ref()?),
        member.key.as_ref().or(member.row.as_ref()),
    );
    Some(match &member.lock {
        Some(lock) => format!("{object} ({lock})"),
        None => object,
    })
}

fn one<W: Write>(paper: &mut Paper<'_, W>, deadlock: &Deadlock, member: &Member) -> io::Result<()> {
    let step = member.step.as_ref().map(|s| format!(" in {s}")).unwrap_or_default();
    let blocker = deadlock.cycle.iter().find(|m| m.pid == member.blocked_by);
    let blocker = blocker.map_or_else(|| format!("process {}", member.blocked_by), name);
    let row = match (&member.relation, &member.key, &member.row) {
        (Some(relation), Some(key), _) => format!(", for the row {key} of {relation}"),
        (Some(relation), None, Some(row)) => format!(", for row {row} of {relation}"),
        (Some(relation), None, None) => format!(", for {relation}"),
        _ => String::new(),
    };
    let fate = if member.victim { "; the server ended it" } else { "" };
    let text = format!(
        "{}{step} waits for {blocker}{row} ({}){fate}",
        name(member),
        member.waits_for
    );
    paper.line(4, &text)?;
    if let Some(statement) = &member.statement {
        paper.line(8, &one_line(statement))?;
    }
    if !member.parameters.is_empty() {
        let pair = |(n, v): &(String, Option<String>)| format!(":{n} = {}", v.as_deref().unwrap_or("NULL"));
        let pairs: Vec<String> = member.parameters.iter().map(pair).collect();
        paper.line(8, &format!("with {}", pairs.join(", ")))?;
    }
    for at in &member.at {
        paper.line(8, &format!("at {at}"))?;
    }
    if member.at.is_empty() && !member.victim && deadlock.cycle.iter().any(|m| !m.at.is_empty()) {
        paper.line(8, "at a line that the server told nobody")?;
    }
    match &member.sql {
        Some(sql) if !member.at.is_empty() => paper.line(8, &format!("there: {}", one_line(sql))),
        _ => Ok(()),
    }
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn name(member: &Member) -> String {
    member
        .session
        .clone()
        .unwrap_or_else(|| format!("process {}", member.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_at_a_glance() {
        assert_eq!(percent(4.0, 1000.0), "0.4%");
        assert_eq!(percent(400.0, 1000.0), "40%");
        assert_eq!(percent(1.0, 0.0), "0.0%");
    }

    #[test]
    fn a_holder_is_named_with_what_it_did() {
        let holder = |who: &str, doing: Option<&str>| Holder {
            who: who.into(),
            doing: doing.map(String::from),
            waits: 2,
            ms: 1.0,
        };
        let holders = [holder("guest 1", Some("in hold")), holder("one another", None)];
        assert_eq!(behind(&holders), "guest 1 in hold (2), one another (2)");
    }

    #[test]
    fn a_share_that_came_with_a_reference_says_so() {
        let share = Held {
            relation: Some("room".into()),
            key: Some("id = 7".into()),
            lock: Some("FOR KEY SHARE".into()),
            by_reference: true,
            ..Held::default()
        };
        assert_eq!(held(&share), "room id = 7 (FOR KEY SHARE, by a foreign key)");
    }
}
