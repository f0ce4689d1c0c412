//! A deadlock, put together from what the victim is told and what is known of the others.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Serialize;

use super::mistake::Mistake;

/// A cycle of sessions that wait for one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deadlock {
    /// The round it was met in.
    pub round: u32,
    /// How many equal cycles were met.
    pub count: u64,
    /// The mistake that the cycle shows.
    pub mistake: Mistake,
    /// What is wrong, and what to do.
    pub advice: Option<String>,
    /// Each waits for the next, the last for the first.
    pub cycle: Vec<Member>,
    /// When the victim was told.
    #[serde(skip)]
    pub(crate) met: Option<Instant>,
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
    /// The table it waited for, or of the row it waited for; the index, when it inserted a unique key; for what is no
    /// table, what it is (`advisory lock 42`).
    pub relation: Option<String>,
    /// The row it waited for, as a ctid.
    pub row: Option<String>,
    /// That row's key: `id = 7`.
    pub key: Option<String>,
    /// The lock it wanted, as SQL has it: `FOR UPDATE`.
    pub lock: Option<String>,
    /// What it held of that which others in the cycle waited for.
    pub holds: Vec<Held>,
    /// The statement that waited, inside the procedure.
    pub sql: Option<String>,
    /// The functions it was in, innermost first, with their lines.
    pub at: Vec<String>,
    /// It waited for another one's unique key.
    #[serde(skip)]
    pub(super) inserts: bool,
}

/// A lock that a member of a cycle held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The table.
    pub relation: Option<String>,
    /// The row, as a ctid.
    pub row: Option<String>,
    /// The row's key.
    pub key: Option<String>,
    /// The lock, as SQL has it, where the server shows it.
    pub lock: Option<String>,
    /// It had written a table that refers to this one.
    pub by_reference: bool,
}

impl Member {
    /// Whether it wanted the same as another one; none where that is not known.
    pub(super) fn wants_the_same(&self, other: &Member) -> Option<bool> {
        if self.relation.as_ref()? != other.relation.as_ref()? {
            return Some(false);
        }
        match ((&self.key, &other.key), (&self.row, &other.row)) {
            ((Some(a), Some(b)), _) | (_, (Some(a), Some(b))) => Some(a == b),
            ((None, None), (None, None)) => Some(true),
            _ => None,
        }
    }

    /// It waited for the end of another one's insert. Only the victim is told; of the others the server shows no table.
    pub(super) fn inserts_a_key(&self) -> bool {
        let insert = |sql: &String| {
            sql.trim_start()
                .get(..6)
                .is_some_and(|word| word.eq_ignore_ascii_case("insert"))
        };
        let statement = self.sql.as_ref().or(self.statement.as_ref());
        self.inserts || !self.victim && self.relation.is_none() && statement.is_some_and(insert)
    }

    /// Whether it may have its share of a row because it wrote one that refers to it.
    pub(super) fn shares_by_reference(&self) -> bool {
        let key_share = |lock: &Option<String>| lock.as_deref().is_none_or(|lock| lock == "FOR KEY SHARE");
        self.holds.iter().any(|h| h.by_reference && key_share(&h.lock))
    }
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
                member.inserts = context.is_some_and(|c| c.contains("index tuple"));
                // the place in an index where a key was to go names no row that is there
                member.row = row.filter(|_| !member.inserts);
                member.relation = relation;
                member.sql = context.and_then(statement).map(String::from);
                member.at = context.map(functions).unwrap_or_default();
            }
        }
        Deadlock {
            count: 1,
            cycle,
            ..Deadlock::default()
        }
    }

    /// Whether it is the same mistake: the same steps wait for the same tables at the same lines, as far as these are
    /// known of both. How many sessions stood in the cycle is chance, and which of them was the victim.
    pub fn is_like(&self, other: &Deadlock) -> bool {
        fn same<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> bool {
            a.is_subset(b) || b.is_subset(a)
        }
        let members = |d: &Deadlock| d.cycle.clone().into_iter();
        let steps = |d| members(d).map(|m| m.step).collect::<BTreeSet<_>>();
        let tables = |d| members(d).filter_map(|m| m.relation).collect::<BTreeSet<_>>();
        let lines = |d| {
            members(d)
                .map(|m| m.at)
                .filter(|at| !at.is_empty())
                .collect::<BTreeSet<_>>()
        };
        let mistakes = [self.mistake, other.mistake];
        steps(self) == steps(other)
            && same(&tables(self), &tables(other))
            && same(&lines(self), &lines(other))
            && (mistakes.contains(&Mistake::Unknown) || self.mistake == other.mistake)
    }

    /// How much is known of it, and how short it is: of equal ones the best stands for all.
    fn worth(&self) -> (bool, usize, std::cmp::Reverse<usize>) {
        let unknown = |m: &Member| {
            usize::from(m.at.is_empty()) + usize::from(m.relation.is_none()) + usize::from(m.key.is_none())
        };
        let unknown: usize = self.cycle.iter().map(unknown).sum();
        (
            self.mistake != Mistake::Unknown,
            usize::MAX - unknown,
            std::cmp::Reverse(self.cycle.len()),
        )
    }

    /// Counts equal deadlocks once; the one of which most is known stands for them, or the shortest.
    pub fn distinct(all: impl IntoIterator<Item = Deadlock>) -> Vec<Deadlock> {
        let mut distinct: Vec<Deadlock> = Vec::new();
        for deadlock in all {
            match distinct.iter_mut().find(|d| d.is_like(&deadlock)) {
                None => distinct.push(deadlock),
                Some(known) => {
                    let count = known.count + deadlock.count;
                    if deadlock.worth() > known.worth() {
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

/// The innermost `SQL statement "update ..."`, which may have several lines.
pub(super) fn statement(context: &str) -> Option<&str> {
    let (_, rest) = context.split_once("SQL statement \"")?;
    let end = rest.find("\"\nPL/pgSQL function ").or_else(|| rest.find("\"\nSQL "));
    Some(&rest[..end.unwrap_or(rest.trim_end_matches('"').len())])
}

/// The `PL/pgSQL function f(integer) line 5 at SQL statement` lines.
pub(super) fn functions(context: &str) -> Vec<String> {
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
        assert_eq!(victim.sql.as_deref(), Some("update t.acct set bal=bal+amt where id=b"));
    }

    #[test]
    fn an_insert_waits_for_a_key_and_not_for_a_row() {
        let context = "while inserting index tuple (0,2) in relation \"claims_pkey\"\nSQL statement \"insert into claims\n values (1)\"";
        let deadlock = Deadlock::read(DETAIL, Some(context), 6494);
        let victim = &deadlock.cycle[0];
        assert_eq!(
            (victim.relation.as_deref(), victim.row.as_deref()),
            (Some("claims_pkey"), None)
        );
        assert_eq!(victim.sql.as_deref(), Some("insert into claims\n values (1)"));
        assert!(victim.inserts_a_key());
        assert!(!deadlock.cycle[1].inserts_a_key());
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
        let distinct = Deadlock::distinct([one.clone(), other.clone(), again]);
        assert_eq!(distinct.iter().map(|d| d.count).collect::<Vec<_>>(), [2, 1]);
        // when the lines of both are known, it is one deadlock with two possible victims
        let mut both = one.clone();
        both.cycle[1].at.clone_from(&other.cycle[0].at);
        let mut both_again = other;
        both_again.cycle[1].at.clone_from(&one.cycle[0].at);
        let distinct = Deadlock::distinct([one, both.clone(), both_again]);
        assert_eq!(distinct.iter().map(|d| d.count).collect::<Vec<_>>(), [3]);
        assert_eq!(distinct[0].cycle, both.cycle, "the better known one stands for them");
    }
}
