//! What is wrong in a deadlock, told from its cycle. Pure.

use serde::Serialize;

use super::deadlock::Member;

/// The mistake behind a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mistake {
    /// The members took the same locks in different orders.
    OppositeOrder,
    /// The members shared a lock, and each wanted more of it.
    LockUpgrade,
    /// The share came with a row that refers to the locked one.
    ForeignKeyShareLock,
    /// Not enough of the cycle was seen.
    #[default]
    Unknown,
}

impl Mistake {
    /// What the cycle shows.
    pub(super) fn of(cycle: &[Member]) -> Mistake {
        // a cycle of one is what is left when the server's message can't be read
        if cycle.len() < 2 {
            return Mistake::Unknown;
        }
        if cycle.iter().all(Member::inserts_a_key) {
            return Mistake::OppositeOrder;
        }
        let pairs = cycle.iter().zip(cycle.iter().skip(1));
        let same: Option<Vec<bool>> = pairs.map(|(a, b)| a.wants_the_same(b)).collect();
        match same {
            None => Mistake::Unknown,
            Some(same) if same.contains(&false) => Mistake::OppositeOrder,
            Some(_) if cycle.iter().any(Member::shares_by_reference) => Mistake::ForeignKeyShareLock,
            Some(_) => Mistake::LockUpgrade,
        }
    }

    /// Its name, for a heading.
    pub fn name(self) -> &'static str {
        match self {
            Mistake::OppositeOrder => "opposite lock order",
            Mistake::LockUpgrade => "lock upgrade",
            Mistake::ForeignKeyShareLock => "foreign key share lock",
            Mistake::Unknown => "unknown",
        }
    }

    /// What is wrong, and what to do.
    pub(super) fn advice(self, cycle: &[Member]) -> Option<String> {
        let rows = cycle.iter().all(|m| m.key.is_some() || m.row.is_some());
        let advice = match self {
            Mistake::OppositeOrder if cycle.iter().all(Member::inserts_a_key) => {
                "the sessions insert the same unique keys in different orders; insert them in one order everywhere"
            }
            Mistake::OppositeOrder if rows => {
                "the sessions lock the same rows in different orders; lock them in one order everywhere, for example \
                 with `select ... order by <key> for update` before the first change"
            }
            Mistake::OppositeOrder => {
                "the sessions take the same locks in different orders; take them in one order everywhere"
            }
            Mistake::LockUpgrade if rows => {
                "each session shares a lock on the row and then wants more of it, which no other lets it have; take the \
                 stronger lock at the first read: `for no key update`, or `for update` before a delete or a change of \
                 the key"
            }
            Mistake::LockUpgrade => {
                "each session shares a lock and then wants more of it, which no other lets it have; take the stronger \
                 lock first"
            }
            Mistake::ForeignKeyShareLock => {
                "a row that refers to another one puts FOR KEY SHARE on it, and then each session wants more of that \
                 row than the others' shares allow; lock the row referred to before writing the one that refers, or \
                 use `for no key update`, which goes together with key shares, instead of `for update`"
            }
            Mistake::Unknown => return None,
        };
        Some(advice.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadlock::Held;
    use super::*;

    fn member(key: &str, held: &str, lock: Option<&str>, refers: bool) -> Member {
        let held = Held {
            relation: Some("room".into()),
            key: Some(held.into()),
            lock: lock.map(String::from),
            by_reference: refers,
            ..Held::default()
        };
        Member {
            relation: Some("room".into()),
            key: Some(key.into()),
            holds: vec![held],
            ..Member::default()
        }
    }

    #[test]
    fn different_rows_are_an_opposite_order() {
        let cycle = [
            member("id = 1", "id = 2", None, false),
            member("id = 2", "id = 1", None, false),
        ];
        assert_eq!(Mistake::of(&cycle), Mistake::OppositeOrder);
        assert!(Mistake::OppositeOrder.advice(&cycle).unwrap().contains("order by"));
    }

    #[test]
    fn one_row_that_all_share_is_an_upgrade() {
        let one = |refers| member("id = 1", "id = 1", Some("FOR SHARE"), refers);
        assert_eq!(Mistake::of(&[one(false), one(false)]), Mistake::LockUpgrade);
        // the tables refer to each other, but the code asked for the share itself
        assert_eq!(Mistake::of(&[one(true), one(true)]), Mistake::LockUpgrade);
        let key_share = |refers| member("id = 1", "id = 1", Some("FOR KEY SHARE"), refers);
        assert_eq!(Mistake::of(&[key_share(false), key_share(false)]), Mistake::LockUpgrade);
        assert_eq!(
            Mistake::of(&[key_share(true), key_share(true)]),
            Mistake::ForeignKeyShareLock
        );
        let unseen = |refers| member("id = 1", "id = 1", None, refers);
        assert_eq!(Mistake::of(&[unseen(true), unseen(true)]), Mistake::ForeignKeyShareLock);
    }

    #[test]
    fn nobody_guesses_at_what_was_not_seen() {
        let blind = Member::default();
        assert_eq!(
            Mistake::of(&[member("id = 1", "id = 1", None, false), blind]),
            Mistake::Unknown
        );
        // one is known by its key, the other by its place: they may be the same
        let placed = Member {
            key: None,
            row: Some("(0,2)".into()),
            ..member("id = 1", "id = 1", None, false)
        };
        assert_eq!(
            Mistake::of(&[member("id = 1", "id = 1", None, false), placed]),
            Mistake::Unknown
        );
        assert_eq!(Mistake::of(&[]), Mistake::Unknown);
        assert_eq!(Mistake::Unknown.advice(&[]), None);
    }

    #[test]
    fn unique_keys_that_are_inserted_are_different_ones() {
        let insert = Member {
            relation: Some("claims_pkey".into()),
            inserts: true,
            ..Member::default()
        };
        assert_eq!(Mistake::of(&[insert.clone(), insert]), Mistake::OppositeOrder);
    }
}
