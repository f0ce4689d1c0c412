//! A deadlock after its round: the victim's error, joined with what was seen while the cycle stood, and with what the
//! server told the survivors.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::deadlock::{Deadlock, Held, Member, functions, statement};
use super::graph::Place;
use super::locks::LockWatch;
use super::mistake::Mistake;
use super::sighting::Sighting;
use super::timeline::Timeline;
use super::words;
use crate::postgres::Notices;

/// What is known of a round when it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) locks: &'a LockWatch,
    pub(crate) timeline: &'a Timeline,
    pub(crate) notices: &'a Notices,
    /// Names of tables that the server gave as numbers.
    pub(crate) tables: &'a HashMap<u32, String>,
    /// A cycle stands for so long, and hardly longer.
    pub(crate) deadlock_timeout: Duration,
}

impl Deadlock {
    /// Tables that the server has named by their number only.
    pub(crate) fn tables(&self) -> impl Iterator<Item = u32> {
        self.cycle.iter().filter_map(|m| words::read(&m.waits_for)?.oid)
    }

    /// Adds what only others than the victim knew.
    pub(crate) fn explain(&mut self, evidence: Evidence<'_>) {
        let Some(met) = self.met else { return };
        // the server may be late, but not for as long as the next cycle of the same would take
        let earliest = met.checked_sub(evidence.deadlock_timeout * 2).unwrap_or(met);
        let sightings: Vec<Vec<Sighting>> = self
            .cycle
            .iter()
            .map(|member| evidence.locks.sightings(member.pid, earliest, met))
            .collect();
        let mut places: Vec<Option<Place>> = Vec::new();
        for (member, sightings) in self.cycle.iter_mut().zip(&sightings) {
            let seen = sightings.iter().find_map(|s| s.place(member.pid, member.blocked_by));
            let seen = seen.or_else(|| evidence.in_words(member));
            places.push(member.add_place(seen, sightings));
        }
        share_keys(&mut self.cycle, &mut places);
        for (member, sightings) in self.cycle.iter_mut().zip(&sightings).filter(|(m, _)| !m.victim) {
            let standing = |s: &&Sighting| {
                s.holders
                    .get(&member.pid)
                    .is_some_and(|h| h.contains(&member.blocked_by))
            };
            let stood = sightings.iter().find(standing).map(|s| s.at);
            member.add_lines(evidence, stood, met);
        }
        add_holds(&mut self.cycle, &places, &sightings);
        self.mistake = Mistake::of(&self.cycle);
        self.advice = self.mistake.advice(&self.cycle);
    }
}

impl Evidence<'_> {
    /// What a member waited for, as the server told its victim.
    fn in_words(&self, member: &Member) -> Option<Place> {
        let place = words::read(&member.waits_for)?;
        let name = place.oid.and_then(|oid| self.tables.get(&oid));
        Some(Place {
            relation: place.relation.or_else(|| name.cloned()),
            ..place
        })
    }
}

impl Member {
    /// What it waited for: the victim's error has the first word, because it is surely of this wait.
    fn add_place(&mut self, seen: Option<Place>, sightings: &[Sighting]) -> Option<Place> {
        if self.inserts {
            return None;
        }
        let told = self.relation.clone().zip(self.row.clone());
        let mut place = seen.unwrap_or_default();
        if let Some((relation, row)) = told
            && place.row.as_ref() != Some(&row)
        {
            place = match sightings.iter().find_map(|s| s.named(&relation, &row)) {
                Some(found) => Place {
                    oid: Some(found.oid),
                    relation: Some(found.relation.clone()),
                    key: found.key.clone(),
                    row: Some(row),
                    lock: place.lock,
                },
                None => Place {
                    // the same row, whose number was not seen
                    key: place.key.filter(|_| place.row.is_none()),
                    oid: place.oid,
                    relation: Some(relation),
                    row: Some(row),
                    lock: place.lock,
                },
            };
        }
        place.relation.as_ref()?;
        self.relation.clone_from(&place.relation);
        self.row.clone_from(&place.row);
        self.key.clone_from(&place.key);
        self.lock.clone_from(&place.lock);
        Some(place)
    }

    /// Where it stood: told with the statement that waited, or with the error that it ended in later.
    fn add_lines(&mut self, evidence: Evidence<'_>, stood: Option<Instant>, met: Instant) {
        if let Some(slow) = evidence.notices.in_deadlock(self.pid, stood, met) {
            self.at = slow.context.as_deref().map(functions).unwrap_or_default();
            self.sql = Some(slow.text);
            return;
        }
        let at = stood.unwrap_or(met);
        let step = evidence.timeline.at(self.pid, at).filter(|s| s.to >= at);
        if let Some(context) = step.and_then(|s| s.context.as_deref()) {
            self.at = functions(context);
            self.sql = statement(context).map(String::from);
        }
    }
}

/// The key of a row that one of them shows is that of the others, too.
fn share_keys(cycle: &mut [Member], places: &mut [Option<Place>]) {
    let known: Vec<Place> = places.iter().flatten().filter(|p| p.key.is_some()).cloned().collect();
    for (member, place) in cycle.iter_mut().zip(places) {
        let Some(place) = place.as_mut().filter(|p| p.key.is_none() && p.row.is_some()) else {
            continue;
        };
        if let Some(same) = known
            .iter()
            .find(|k| k.relation == place.relation && k.row == place.row)
        {
            place.key.clone_from(&same.key);
            member.key.clone_from(&same.key);
        }
    }
}

/// Each holds what those wait for whom it blocks.
fn add_holds(cycle: &mut [Member], places: &[Option<Place>], sightings: &[Vec<Sighting>]) {
    let mut holds: Vec<Vec<Held>> = vec![Vec::new(); cycle.len()];
    for (waiter, place) in cycle.iter().zip(places) {
        let holder = cycle.iter().position(|m| m.pid == waiter.blocked_by);
        let (Some(holder), Some(place)) = (holder, place) else {
            continue;
        };
        let pid = cycle[holder].pid;
        let seen = &sightings[holder];
        let lock = seen.iter().find_map(|s| s.held(pid, place));
        // the first in the queue for a row has a lock that says so
        let queue = waiter
            .waits_for
            .contains(" on tuple ")
            .then_some("the first place in the queue");
        holds[holder].push(Held {
            relation: place.relation.clone(),
            row: place.row.clone(),
            key: place.key.clone(),
            lock: lock.or(queue).map(String::from),
            by_reference: seen.iter().any(|s| s.refers(pid, place)),
        });
    }
    for (member, holds) in cycle.iter_mut().zip(holds) {
        member.holds = holds;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sighting::LockedRow;
    use super::*;

    const DETAIL: &str = "Process 1 waits for ShareLock on transaction 740; blocked by process 2.\n\
        Process 2 waits for ShareLock on transaction 741; blocked by process 1.";
    const CONTEXT: &str = "while updating tuple (0,2) in relation \"room\"\n\
        SQL statement \"update room set n = 1\"\nPL/pgSQL function book(integer) line 4 at SQL statement";

    #[test]
    fn the_rows_that_were_seen_make_the_cycle_whole() {
        let met = Instant::now();
        let mut deadlock = Deadlock::read(DETAIL, Some(CONTEXT), 1);
        deadlock.met = Some(met);
        let row = |row: &str, key: &str, pid: i32| LockedRow {
            oid: 5,
            relation: "public.room".into(),
            row: row.into(),
            key: Some(key.into()),
            owners: vec![(pid, None)],
        };
        let waits = |row: &str| Place {
            oid: Some(5),
            relation: Some("public.room".into()),
            row: Some(row.into()),
            ..Place::default()
        };
        let locks = LockWatch::default();
        locks.sighted(Sighting {
            places: HashMap::from([(1, waits("(0,2)")), (2, waits("(0,1)"))]),
            holders: HashMap::from([(1, vec![2]), (2, vec![1])]),
            rows: vec![row("(0,2)", "id = 2", 2), row("(0,1)", "id = 1", 1)],
            ..Sighting::new(met)
        });
        deadlock.explain(Evidence {
            locks: &locks,
            timeline: &Timeline::default(),
            notices: &Notices::default(),
            tables: &HashMap::new(),
            deadlock_timeout: Duration::from_millis(200),
        });
        let told: Vec<_> = deadlock
            .cycle
            .iter()
            .map(|m| (m.key.as_deref(), m.holds[0].key.as_deref()))
            .collect();
        assert_eq!(
            told,
            [(Some("id = 2"), Some("id = 1")), (Some("id = 1"), Some("id = 2"))]
        );
        assert_eq!(deadlock.mistake, Mistake::OppositeOrder);
        assert!(deadlock.advice.is_some());
    }

    #[test]
    fn without_a_sighting_the_victims_words_stay() {
        let mut deadlock = Deadlock::read(DETAIL, Some(CONTEXT), 1);
        deadlock.met = Some(Instant::now());
        deadlock.explain(Evidence {
            locks: &LockWatch::default(),
            timeline: &Timeline::default(),
            notices: &Notices::default(),
            tables: &HashMap::new(),
            deadlock_timeout: Duration::from_millis(200),
        });
        assert_eq!(deadlock.cycle[0].row.as_deref(), Some("(0,2)"));
        assert_eq!(deadlock.cycle[1].holds[0].relation.as_deref(), Some("room"));
        assert_eq!(deadlock.mistake, Mistake::Unknown);
    }
}
