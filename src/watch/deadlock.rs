//! A deadlock, put together from what the victim is told and what is known of the others.

use std::collections::BTreeSet;

use serde::Serialize;

/// A cycle of sessions that wait for one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deadlock {
    /// The round it was met in.
    pub round: u32,
    /// How many equal cycles were met.
    pub count: u64,
    /// Each waits for the next, the last for the first.
    pub cycle: Vec<Member>,
}

/// A session in a cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The server's process.
    pub pid: i32,
    /// Whether the server ended this one's transaction.
    pub victim: bool,
    /// `guest 17`; none for a process that isn't ours.
    pub session: Option<String>,
    /// The step it was in.
    pub step: Option<String>,
    /// The statement as the scenario has it.
    pub statement: Option<String>,
    /// The statement's parameters by name.
    pub parameters: Vec<(String, Option<String>)>,
    /// The lock it waited for, in the server's words: `ShareLock on transaction 740`.
    pub waits_for: String,
    /// The process that held it.
    pub blocked_by: i32,
    /// The table of the row it waited for.
    pub relation: Option<String>,
    /// The row it waited for, as a ctid.
    pub row: Option<String>,
    /// The functions it was in, innermost first, with their lines. Only the victim is told.
    pub at: Vec<String>,
}

impl Deadlock {
    /// Reads the DETAIL and CONTEXT of a 40P01 (`DeadLockReport` in PostgreSQL's deadlock.c):
    /// `Process 6494 waits for ShareLock on transaction 726; blocked by process 6493.`
    ///
    /// In another language than English the processes are still the first and the last number of a line.
    pub fn read(detail: &str, context: Option<&str>, victim: i32) -> Deadlock {
        let mut cycle: Vec<Member> = detail.lines().filter_map(member).collect();
        if cycle.is_empty() {
            cycle.push(Member {
                pid: victim,
                ..Member::default()
            });
        }
        for member in &mut cycle {
            if member.pid == victim {
                member.victim = true;
                let (row, relation) = context.and_then(waited_for).unzip();
                member.row = row;
                member.relation = relation;
                member.at = context.map(functions).unwrap_or_default();
            }
        }
        Deadlock {
            round: 0,
            count: 1,
            cycle,
        }
    }

    /// Whether it is the same mistake: the same steps wait for the same tables, the victim at the same lines. How many
    /// sessions stood in the cycle is chance.
    pub fn is_like(&self, other: &Deadlock) -> bool {
        let sketch = |deadlock: &Deadlock| {
            let waits: BTreeSet<_> = deadlock
                .cycle
                .iter()
                .map(|m| (m.step.clone(), m.relation.clone()))
                .collect();
            let lines: Vec<_> = deadlock
                .cycle
                .iter()
                .filter(|m| m.victim)
                .map(|m| m.at.clone())
                .collect();
            (waits, lines)
        };
        sketch(self) == sketch(other)
    }

    /// Counts equal deadlocks once; the shortest cycle stands for them.
    pub fn distinct(all: impl IntoIterator<Item = Deadlock>) -> Vec<Deadlock> {
        let mut distinct: Vec<Deadlock> = Vec::new();
        for deadlock in all {
            match distinct.iter_mut().find(|d| d.is_like(&deadlock)) {
                None => distinct.push(deadlock),
                Some(known) => {
                    let count = known.count + deadlock.count;
                    if deadlock.cycle.len() < known.cycle.len() {
                        *known = deadlock;
                    }
                    known.count = count;
                }
            }
        }
        distinct.sort_by_key(|d| std::cmp::Reverse(d.count));
        distinct
    }
}

fn member(line: &str) -> Option<Member> {
    let numbers: Vec<i32> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    let waits_for = line
        .split_once(" waits for ")
        .and_then(|(_, rest)| rest.split_once("; "))
        .map_or(line, |(lock, _)| lock);
    Some(Member {
        pid: *numbers.first()?,
        blocked_by: *numbers.last()?,
        waits_for: waits_for.to_string(),
        ..Member::default()
    })
}

/// `while updating tuple (0,1) in relation "acct"` -> the row and the table.
fn waited_for(context: &str) -> Option<(String, String)> {
    let line = context.lines().find(|l| l.contains(" tuple ("))?;
    let row = &line[line.find('(')?..=line.find(')')?];
    let relation = line.split('"').nth(1)?;
    Some((row.to_string(), relation.to_string()))
}

/// The `PL/pgSQL function f(integer) line 5 at SQL statement` lines.
fn functions(context: &str) -> Vec<String> {
    context
        .lines()
        .filter(|l| l.contains(" line ") && l.contains('('))
        .map(|l| l.trim().trim_start_matches("PL/pgSQL function ").to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAIL: &str = "Process 6494 waits for ShareLock on transaction 726; blocked by process 6493.\n\
        Process 6493 waits for ShareLock on transaction 725; blocked by process 6494.";
    const CONTEXT: &str = "while updating tuple (0,1) in relation \"acct\"\n\
        SQL statement \"update t.acct set bal=bal+amt where id=b\"\n\
        PL/pgSQL function t.xfer(integer,integer,integer) line 5 at SQL statement";

    #[test]
    fn the_victims_error_gives_the_cycle() {
        let deadlock = Deadlock::read(DETAIL, Some(CONTEXT), 6494);
        let [victim, other] = deadlock.cycle.as_slice() else {
            panic!()
        };
        assert_eq!((victim.pid, victim.blocked_by, victim.victim), (6494, 6493, true));
        assert_eq!((other.pid, other.blocked_by, other.victim), (6493, 6494, false));
        assert_eq!(victim.waits_for, "ShareLock on transaction 726");
        assert_eq!(victim.relation.as_deref(), Some("acct"));
        assert_eq!(victim.row.as_deref(), Some("(0,1)"));
        assert_eq!(victim.at, ["t.xfer(integer,integer,integer) line 5 at SQL statement"]);
    }

    #[test]
    fn another_language_and_nothing_at_all_still_give_something() {
        let german = "Prozess 12 wartet auf ShareLock-Sperre auf Transaktion 726; blockiert von Prozess 34.";
        let deadlock = Deadlock::read(german, None, 12);
        assert_eq!((deadlock.cycle[0].pid, deadlock.cycle[0].blocked_by), (12, 34));
        assert_eq!(Deadlock::read("", None, 7).cycle[0].pid, 7);
    }

    #[test]
    fn equal_cycles_are_counted_once_whoever_was_the_victim_first() {
        let one = Deadlock::read(DETAIL, Some(CONTEXT), 6494);
        let again = Deadlock::read(
            &DETAIL.replace("726", "999"),
            Some(&CONTEXT.replace("(0,1)", "(7,2)")),
            6494,
        );
        let other = Deadlock::read(DETAIL, Some(&CONTEXT.replace("line 5", "line 9")), 6494);
        let distinct = Deadlock::distinct([one, other, again]);
        assert_eq!(distinct.iter().map(|d| d.count).collect::<Vec<_>>(), [2, 1]);
    }
}
