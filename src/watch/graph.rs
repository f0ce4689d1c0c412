//! Who waits for whom, in one sample.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// A process that waits for a lock.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// When its wait began; none where the server doesn't say.
    pub(super) began: Option<Instant>,
    /// Those who hold what it wants.
    pub(super) holders: Vec<i32>,
    pub(super) place: Place,
}

/// What is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The table's oid.
    pub(crate) oid: Option<u32>,
    /// The table's name; for what is no table, what it is: `advisory lock 42`.
    pub(crate) relation: Option<String>,
    /// The row's ctid, where the server shows it.
    pub(crate) row: Option<String>,
    /// The row's key: `id = 7`.
    pub(crate) key: Option<String>,
    /// The lock that is wanted, as SQL has it: `FOR UPDATE`.
    pub(crate) lock: Option<String>,
}

impl Place {
    /// Whether both are the same row.
    pub(super) fn is_row_of(&self, other: &Place) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        self.oid.is_some() && self.oid == other.oid && (same(&self.row, &other.row) || same(&self.key, &other.key))
    }
}

/// The end of a chain of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// A process that waits for nobody.
    Holder(i32),
    /// The waiters wait for one another.
    Cycle,
    /// Whoever it was had gone on when the sample was taken.
    Gone,
}

/// Behind a hot row the followers of the first waiter name one another, not the holder, so the chain is walked.
pub(super) fn root(pid: i32, waiters: &HashMap<i32, Waiter>) -> Root {
    let mut at = pid;
    for _ in 0..=waiters.len() {
        let Some(waiter) = waiters.get(&at) else {
            return Root::Holder(at);
        };
        match waiter.holders.first() {
            Some(holder) => at = *holder,
            None => return Root::Gone,
        }
    }
    Root::Cycle
}

/// The processes that stand in a cycle, or between two: who waits for nobody that waits, and for whom nobody of the
/// others waits, is taken away until nothing changes.
pub(super) fn in_cycles(waiters: &HashMap<i32, Waiter>) -> BTreeSet<i32> {
    let mut left: BTreeSet<i32> = waiters.keys().copied().collect();
    loop {
        let before = left.len();
        let waits = |pid: &i32| waiters[pid].holders.iter().any(|h| left.contains(h));
        let waiting: BTreeSet<i32> = left.iter().copied().filter(|pid| waits(pid)).collect();
        let wanted: BTreeSet<i32> = waiting.iter().flat_map(|pid| waiters[pid].holders.clone()).collect();
        left = waiting.intersection(&wanted).copied().collect();
        if left.len() == before {
            return left;
        }
    }
}

/// Lock modes in rising strength; an ungranted mode conflicts with a granted one as PostgreSQL's documentation, table 13.2, has it.
const MODES: [(&str, u8); 8] = [
    ("AccessShareLock", 0b1000_0000),
    ("RowShareLock", 0b1100_0000),
    ("RowExclusiveLock", 0b1111_0000),
    ("ShareUpdateExclusiveLock", 0b1111_1000),
    ("ShareLock", 0b1110_1100),
    ("ShareRowExclusiveLock", 0b1111_1100),
    ("ExclusiveLock", 0b1111_1110),
    ("AccessExclusiveLock", 0b1111_1111),
];

pub(super) fn conflict(wanted: &str, held: &str) -> bool {
    let at = |mode: &str| MODES.iter().position(|(m, _)| *m == mode);
    match (at(wanted), at(held)) {
        (Some(wanted), Some(held)) => MODES[wanted].1 & (1 << held) != 0,
        _ => true,
    }
}

/// The row lock behind the mode of a tuple lock (`tupleLockExtraInfo` in PostgreSQL's heapam.c).
pub(super) fn row_lock(mode: &str) -> Option<&'static str> {
    match mode {
        "AccessShareLock" => Some("FOR KEY SHARE"),
        "RowShareLock" => Some("FOR SHARE"),
        // an UPDATE that changes no key takes it
        "ExclusiveLock" => Some("FOR NO KEY UPDATE"),
        // and DELETE, or an UPDATE of a key
        "AccessExclusiveLock" => Some("FOR UPDATE"),
        _ => None,
    }
}

/// The row lock behind a member's status in `pg_get_multixact_members`.
pub(super) fn member_lock(status: &str) -> Option<&'static str> {
    match status {
        "keysh" => Some("FOR KEY SHARE"),
        "sh" => Some("FOR SHARE"),
        "fornokeyupd" | "nokeyupd" => Some("FOR NO KEY UPDATE"),
        "forupd" | "upd" => Some("FOR UPDATE"),
        _ => None,
    }
}

/// `AccessExclusiveLock` -> `ACCESS EXCLUSIVE`.
pub(super) fn table_lock(mode: &str) -> String {
    let mut words = String::new();
    for c in mode.trim_end_matches("Lock").chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_uppercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiters(edges: &[(i32, &[i32])]) -> HashMap<i32, Waiter> {
        let waiter = |holders: &[i32]| Waiter {
            began: None,
            holders: holders.to_vec(),
            place: Place::default(),
        };
        edges.iter().map(|(pid, holders)| (*pid, waiter(holders))).collect()
    }

    #[test]
    fn lock_modes_conflict_both_ways_and_as_documented() {
        for (a, _) in MODES {
            for (b, _) in MODES {
                assert_eq!(conflict(a, b), conflict(b, a), "{a} {b}");
            }
        }
        assert!(
            conflict("RowExclusiveLock", "ShareLock"),
            "the write gate holds writers"
        );
        assert!(!conflict("RowShareLock", "ShareLock"), "and lets row locks pass");
        assert!(!conflict("ShareLock", "ShareLock"));
        assert!(conflict("ShareUpdateExclusiveLock", "ShareUpdateExclusiveLock"));
    }

    #[test]
    fn followers_are_charged_to_the_root() {
        let all = waiters(&[(2, &[1]), (3, &[2]), (4, &[3, 2])]);
        assert_eq!(root(4, &all), Root::Holder(1));
        assert_eq!(root(1, &waiters(&[(1, &[2]), (2, &[1])])), Root::Cycle);
        assert_eq!(root(1, &waiters(&[(1, &[])])), Root::Gone);
    }

    #[test]
    fn only_members_stand_in_a_cycle() {
        // 1 and 2 wait for each other; 3 and 4 behind them; 5 behind a working process
        let all = waiters(&[(1, &[2]), (2, &[9, 1]), (3, &[1]), (4, &[3]), (5, &[9])]);
        assert_eq!(in_cycles(&all), BTreeSet::from([1, 2]));
        assert_eq!(in_cycles(&waiters(&[(2, &[1]), (3, &[2])])), BTreeSet::new());
    }

    #[test]
    fn locks_are_named_as_sql_has_them() {
        assert_eq!(table_lock("ShareUpdateExclusiveLock"), "SHARE UPDATE EXCLUSIVE");
        assert_eq!(row_lock("ExclusiveLock"), Some("FOR NO KEY UPDATE"));
        assert_eq!(member_lock("keysh"), Some("FOR KEY SHARE"));
    }
}
