use std::time::{Duration, UNIX_EPOCH};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

fn at(second: u64) -> Moment {
    Moment::from(UNIX_EPOCH + Duration::from_secs(second))
}

fn subject(check: &str) -> Subject {
    Subject {
        database: "shop".into(),
        check: check.into(),
    }
}

fn key(id: &str) -> Key {
    Key::from([("id".into(), Some(id.into()))])
}

fn part() -> Coverage {
    Coverage::Part("it is not among the first".into())
}

fn look(check: &str, found: &[&str]) -> Look {
    Look {
        subject: subject(check),
        columns: BTreeSet::from(["id".into()]),
        fingerprint: "asks".into(),
        coverage: Coverage::Whole,
        found: found.iter().map(|id| key(id)).collect(),
        pending: BTreeSet::new(),
    }
}

/// A memory that runs are shown to, one after another.
#[derive(Default)]
struct Memory {
    known: BTreeMap<(Subject, Key), Known>,
    asked: BTreeMap<Subject, String>,
}

impl Memory {
    /// What became of each finding.
    fn sees(&mut self, looks: &[Look], now: Moment) -> BTreeMap<String, Change> {
        let known = self.known.values().cloned().collect();
        let compared = diff(known, &self.asked, looks, now);
        for look in looks.iter().filter(|l| !matches!(l.coverage, Coverage::Nothing(_))) {
            self.asked.insert(look.subject.clone(), look.fingerprint.clone());
        }
        let mut changes = BTreeMap::new();
        for one in compared {
            let name = one
                .finding
                .key
                .values()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ");
            let name = format!("{} {name}", one.finding.subject.check);
            assert!(changes.insert(name, one.change).is_none(), "each finding once");
            let id = (one.finding.subject.clone(), one.finding.key.clone());
            self.known.insert(id, one.finding);
        }
        changes
    }

    fn one(&self, check: &str, id: &str) -> &Known {
        &self.known[&(subject(check), key(id))]
    }
}

fn changes<const N: usize>(list: [(&str, Change); N]) -> BTreeMap<String, Change> {
    list.into_iter()
        .map(|(name, change)| (name.to_string(), change))
        .collect()
}

#[test]
fn a_finding_is_new_then_still_open_then_fixed_then_back() {
    let mut memory = Memory::default();
    assert_eq!(
        memory.sees(&[look("a", &["1", "2"])], at(10)),
        changes([("a 1", Change::New), ("a 2", Change::New)])
    );
    assert_eq!(
        memory.sees(&[look("a", &["1"])], at(20)),
        changes([("a 1", Change::StillOpen), ("a 2", Change::Fixed)])
    );
    assert_eq!(
        memory.sees(&[look("a", &["1", "2"])], at(30)),
        changes([("a 1", Change::StillOpen), ("a 2", Change::CameBack)])
    );
    let one = memory.one("a", "1");
    assert_eq!((one.first_seen, one.last_seen, one.times_seen), (at(10), at(30), 3));
    let two = memory.one("a", "2");
    assert_eq!((two.first_seen, two.open_since, two.times_back), (at(10), at(30), 1));
    assert_eq!(two.closed, None);
    assert_eq!(memory.sees(&[look("a", &[])], at(40)).len(), 2);
    assert!(
        memory.sees(&[look("a", &[])], at(50)).is_empty(),
        "what is closed is not told again"
    );
}

#[test]
fn what_was_not_looked_at_stays_as_it_is() {
    let reasons: [(Vec<Look>, &str); 4] = [
        (vec![look("other", &[])], "its check was not run"),
        (
            vec![Look {
                coverage: Coverage::Nothing("could not decide: timeout".into()),
                ..look("a", &["7"])
            }],
            "could not decide: timeout",
        ),
        (
            vec![Look {
                coverage: part(),
                ..look("a", &["0"])
            }],
            "it is not among the first",
        ),
        (
            vec![Look {
                pending: BTreeSet::from([key("1")]),
                ..look("a", &[])
            }],
            "pending",
        ),
    ];
    for (looks, why) in reasons {
        let mut memory = Memory::default();
        memory.sees(&[look("a", &["1"])], at(10));
        let before = memory.one("a", "1").clone();
        let changes = memory.sees(&looks, at(20));
        assert!(
            matches!(&changes["a 1"], Change::NotLooked(reason) if reason.contains(why)),
            "{why}: {changes:?}"
        );
        assert_eq!(*memory.one("a", "1"), before);
        assert!(
            !changes.contains_key("a 7"),
            "what an undecided check saw is not believed"
        );
    }
}

#[test]
fn a_pending_row_is_neither_new_nor_back() {
    let mut memory = Memory::default();
    let pending = Look {
        pending: BTreeSet::from([key("1")]),
        ..look("a", &[])
    };
    assert!(memory.sees(std::slice::from_ref(&pending), at(10)).is_empty());
    memory.sees(&[look("a", &["1"])], at(20));
    memory.sees(&[look("a", &[])], at(30));
    assert!(memory.sees(&[pending], at(40)).is_empty());
}

#[test]
fn a_changed_check_fixes_nothing() {
    let mut memory = Memory::default();
    memory.sees(&[look("a", &["1", "2"])], at(10));
    let changed = Look {
        fingerprint: "asks something else".into(),
        ..look("a", &["1"])
    };
    assert_eq!(
        memory.sees(std::slice::from_ref(&changed), at(20)),
        changes([("a 1", Change::StillOpen), ("a 2", Change::CheckChanged)])
    );
    let gone = Look {
        found: BTreeSet::new(),
        ..changed
    };
    assert_eq!(
        memory.sees(&[gone], at(30)),
        changes([("a 1", Change::Fixed)]),
        "now it is what it was"
    );
}

#[test]
fn keys_of_another_shape_start_anew() {
    let mut memory = Memory::default();
    memory.sees(&[look("a", &["1"])], at(10));
    let wider = Key::from([("day".into(), Some("2".into())), ("id".into(), Some("1".into()))]);
    let reshaped = Look {
        columns: BTreeSet::from(["id".into(), "day".into()]),
        found: BTreeSet::from([wider]),
        coverage: part(),
        ..look("a", &[])
    };
    let changes = memory.sees(&[reshaped], at(20));
    assert_eq!(changes.values().filter(|c| **c == Change::New).count(), 1);
    assert_eq!(memory.one("a", "1").closed, Some((at(20), Closed::CheckChanged)));
}

/// Whatever runs see of it, and however little: what is told is what happened.
#[test]
fn over_many_runs_nothing_is_told_that_did_not_happen() {
    for seed in 0..200u64 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut memory = Memory::default();
        // the truth: which of six rows break it; and what the memory ought to believe
        let mut broken: BTreeSet<Key> = BTreeSet::new();
        let mut believed: BTreeMap<Key, bool> = BTreeMap::new();
        for run in 1..40u64 {
            for id in 0..6 {
                if random.random_bool(0.3) {
                    let row = key(&id.to_string());
                    if !broken.remove(&row) {
                        broken.insert(row);
                    }
                }
            }
            let cap = random.random_range(1..4usize);
            let coverage = match random.random_range(0..4) {
                0 => Coverage::Nothing("timeout".into()),
                1 if broken.len() > cap => part(),
                _ => Coverage::Whole,
            };
            let shown = match coverage {
                Coverage::Part(_) => cap,
                _ => broken.len(),
            };
            let found: BTreeSet<Key> = broken.iter().take(shown).cloned().collect();
            let looks = match random.random_bool(0.15) {
                true => vec![],
                false => vec![Look {
                    coverage: coverage.clone(),
                    found: found.clone(),
                    ..look("a", &[])
                }],
            };
            let is_blind = looks.is_empty() || matches!(coverage, Coverage::Nothing(_));
            for (name, change) in memory.sees(&looks, at(run)) {
                let row = key(name.trim_start_matches("a "));
                let was = believed.get(&row).copied();
                match change {
                    Change::New => assert!(
                        !is_blind && found.contains(&row) && was.is_none(),
                        "seed {seed} run {run} {name}"
                    ),
                    Change::CameBack => assert!(
                        found.contains(&row) && was == Some(false),
                        "seed {seed} run {run} {name}"
                    ),
                    Change::StillOpen => assert!(
                        found.contains(&row) && was == Some(true),
                        "seed {seed} run {run} {name}"
                    ),
                    Change::Fixed => assert!(
                        !is_blind && coverage == Coverage::Whole && !broken.contains(&row) && was == Some(true),
                        "seed {seed} run {run} {name}"
                    ),
                    Change::NotLooked(_) => {
                        assert!(
                            was == Some(true) && (is_blind || coverage == part()),
                            "seed {seed} run {run} {name}"
                        );
                    }
                    Change::CheckChanged => panic!("seed {seed} run {run} {name}: it was not changed"),
                }
            }
            if !is_blind {
                if coverage == Coverage::Whole {
                    believed.values_mut().for_each(|open| *open = false);
                }
                believed.extend(found.into_iter().map(|row| (row, true)));
            }
            let open = memory.known.values().filter(|k| k.closed.is_none());
            let open: BTreeSet<&Key> = open.map(|k| &k.key).collect();
            let expected: BTreeSet<&Key> = believed.iter().filter(|(_, open)| **open).map(|(row, _)| row).collect();
            assert_eq!(open, expected, "seed {seed} run {run}");
        }
    }
}
