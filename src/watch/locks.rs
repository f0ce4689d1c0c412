//! What the samples of a round have shown: who waited for what, from when to when, and behind whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::activity::BackendState;
use super::graph::{Place, Root, Waiter, in_cycles, root};
use super::sighting::Sighting;
use super::wait::{Arranged, Stand, Wait};

/// Cycles whose sightings are kept until the round is over.
const SIGHTINGS_MAX: usize = 256;

/// The view from outside on one round.
#[derive(Debug, Default)]
pub(crate) struct LockWatch {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    cost: Duration,
    /// When the samples were taken.
    pub(super) samples: Vec<Instant>,
    /// Backends that waited for a lock in the latest sample.
    waiting: u64,
    pub(super) waits: Vec<Wait>,
    /// By process: the indices of its waits, in the order of time.
    by_pid: HashMap<i32, Vec<usize>>,
    /// The waits of the cycle that was sighted last.
    standing: BTreeSet<usize>,
    sightings: VecDeque<Sighting>,
    pub(super) arranged: Arranged,
}

/// What the sampler should look into while it lasts.
#[derive(Debug, Default)]
pub(super) struct Todo {
    /// Rows that are waited for, by table and ctid, whose key isn't known.
    pub(super) rows: BTreeSet<(u32, String)>,
    /// Processes that wait for one another, or behind these, and for whom, when it is news.
    pub(super) cycle: BTreeMap<i32, Vec<i32>>,
}

impl LockWatch {
    /// Samples taken, and the time they took.
    pub(crate) fn cost(&self) -> (u64, Duration) {
        let seen = self.lock();
        (seen.samples.len() as u64, seen.cost)
    }

    /// How many waited in the latest sample.
    pub(crate) fn waiting_now(&self) -> u64 {
        self.lock().waiting
    }

    /// The table whose row, or which itself, a process waited for when it was last seen waiting.
    pub(crate) fn table_waited_for(&self, pid: i32) -> Option<String> {
        let seen = self.lock();
        let last = *seen.by_pid.get(&pid)?.last()?;
        seen.waits[last].place.relation.clone()
    }

    /// Tells which waiting the gate made. Waits behind its keeper don't count, and of the others not the time before
    /// the gate was opened.
    pub(crate) fn set_arranged(&self, keeper: Option<i32>, closed: Vec<(Instant, Instant)>) {
        self.lock().arranged = Arranged { keeper, closed };
    }

    /// How long a process was seen waiting for a lock between two moments, without what the gate made. What follows the
    /// last sample that saw a wait is not seen.
    pub(crate) fn blocked(&self, pid: i32, from: Instant, to: Instant) -> Duration {
        let seen = self.lock();
        let waits = seen.by_pid.get(&pid).map_or(&[][..], Vec::as_slice);
        // waits follow one another: those that ended before the interval need no look
        let first = waits.partition_point(|w| seen.waits[*w].until().is_none_or(|until| until < from));
        let segments = waits[first..].iter().flat_map(|w| &seen.waits[*w].segments);
        segments
            .take_while(|s| s.from < to)
            .map(|s| seen.arranged.waited(s, from, to))
            .sum()
    }

    /// The sightings of that time in which the process is, latest first.
    pub(super) fn sightings(&self, pid: i32, from: Instant, to: Instant) -> Vec<Sighting> {
        let seen = self.lock();
        let fits = |s: &&Sighting| s.at >= from && s.at <= to && s.places.contains_key(&pid);
        seen.sightings.iter().rev().filter(fits).cloned().collect()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.lock())
    }

    pub(super) fn add_cost(&self, cost: Duration) {
        self.lock().cost += cost;
    }

    /// Keys of rows that are waited for in the latest sample.
    pub(super) fn resolved(&self, oid: u32, row: &str, key: &str) {
        let mut seen = self.lock();
        let latest = seen.samples.len().saturating_sub(1);
        let current: Vec<usize> = seen.by_pid.values().filter_map(|w| w.last().copied()).collect();
        for index in current {
            let wait = &mut seen.waits[index];
            let same = wait.place.oid == Some(oid) && wait.place.row.as_deref() == Some(row);
            if same && wait.place.key.is_none() && wait.seen_in(latest) {
                wait.place.key = Some(key.to_string());
            }
        }
    }

    /// Keeps what a cycle looks like while it stands.
    pub(super) fn sighted(&self, mut sighting: Sighting) {
        let mut seen = self.lock();
        seen.standing = sighting
            .places
            .keys()
            .filter_map(|pid| seen.by_pid.get(pid)?.last().copied())
            .collect();
        let pids: Vec<i32> = sighting.places.keys().copied().collect();
        for pid in &pids {
            let Some(index) = seen.by_pid.get(pid).and_then(|w| w.last()).copied() else {
                continue;
            };
            let others = pids.iter().filter(|other| *other != pid);
            let places = others.filter_map(|other| sighting.place(*pid, *other));
            // keys have come since the sample, and rows that no lock names
            if let Some(found) = places.into_iter().find(|p| p.relation.is_some()) {
                let place = &mut seen.waits[index].place;
                let key = place.key.take().or(found.key.clone());
                *place = Place { key, ..found };
            }
            sighting.places.insert(*pid, seen.waits[index].place.clone());
        }
        seen.sightings.push_back(sighting);
        if seen.sightings.len() > SIGHTINGS_MAX {
            seen.sightings.pop_front();
        }
    }

    /// Takes a sample in, and says what should be looked into while it lasts.
    pub(super) fn record(
        &self,
        at: Instant,
        states: HashMap<i32, BackendState>,
        waiters: &HashMap<i32, Waiter>,
    ) -> Todo {
        let mut seen = self.lock();
        let sample = seen.samples.len();
        let before = seen.samples.last().copied();
        seen.samples.push(at);
        let mut todo = Todo::default();
        for (pid, waiter) in waiters {
            let root = root(*pid, waiters);
            let idle = matches!(root, Root::Holder(pid) if states.get(&pid).is_some_and(|s| s.is_idle_in_transaction));
            seen.wait(
                *pid,
                waiter,
                Stand {
                    at,
                    before,
                    sample,
                    root,
                    idle,
                    statement: states.get(pid).and_then(|s| s.statement),
                },
            );
        }
        for pid in waiters.keys() {
            let Some(place) = seen.current(*pid).map(|w| &w.place) else {
                continue;
            };
            if let (None, Some(oid), Some(row)) = (&place.key, place.oid, &place.row) {
                todo.rows.insert((oid, row.clone()));
            }
        }
        let members = in_cycles(waiters);
        let mut waits = members.iter().filter_map(|pid| seen.by_pid.get(pid)?.last());
        if waits.any(|wait| !seen.standing.contains(wait)) {
            // who stands behind a cycle will be in the next one, as soon as this one is broken
            let behind = waiters.keys().filter(|pid| root(**pid, waiters) == Root::Cycle);
            todo.cycle = members
                .iter()
                .chain(behind)
                .map(|pid| (*pid, waiters[pid].holders.clone()))
                .collect();
        }
        seen.waiting = states.values().filter(|s| s.waits_for_a_lock).count() as u64;
        todo
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    pub(super) fn current(&self, pid: i32) -> Option<&Wait> {
        Some(&self.waits[*self.by_pid.get(&pid)?.last()?])
    }

    /// Goes on with the wait that the process was in, or begins a new one.
    fn wait(&mut self, pid: i32, waiter: &Waiter, stand: Stand) {
        let known = self.by_pid.get(&pid).and_then(|w| w.last()).copied();
        let is_same = |wait: &Wait| match waiter.began {
            // the server's start of the wait is read with an error of a round trip
            Some(began) => wait.until() >= Some(began),
            None => wait.seen_in(stand.sample.wrapping_sub(1)) && wait.place.relation == waiter.place.relation,
        };
        if let Some(wait) = known.map(|i| &mut self.waits[i]).filter(|w| is_same(w)) {
            wait.go_on(stand);
            return;
        }
        let mut place = waiter.place.clone();
        if place.relation.is_none()
            && let Some(followed) = self.followed(known, waiter, stand.sample)
        {
            place = Place { row: None, ..followed };
        }
        let from = waiter.began.unwrap_or(stand.at).min(stand.at);
        if let Some(wait) = known.map(|i| &mut self.waits[i])
            && stand.statement.is_some()
            && wait.statement == stand.statement
            && wait.place.is_row_of(&place)
        {
            wait.waits_again(from, stand);
            return;
        }
        self.by_pid.entry(pid).or_default().push(self.waits.len());
        self.waits.push(Wait {
            pid,
            statement: stand.statement,
            place,
            segments: vec![stand.segment(from)],
        });
    }

    /// Who waits for a row that was changed while it waited, waits for its next version, and holds no lock that would
    /// name it. It is the same row when the new holder stood in the queue for it, too.
    fn followed(&self, last: Option<usize>, waiter: &Waiter, sample: usize) -> Option<Place> {
        let last = &self.waits[last?];
        let holder = self.current(*waiter.holders.first()?)?;
        let just = |wait: &Wait| wait.seen_in(sample) || wait.seen_in(sample.wrapping_sub(1));
        let a = &last.place;
        let same =
            a.oid.is_some() && a.oid == holder.place.oid && (a.row == holder.place.row || a.is_row_of(&holder.place));
        (same && just(last) && just(holder)).then(|| a.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn waiter(began: Instant, holder: i32, row: Option<&str>) -> Waiter {
        Waiter {
            began: Some(began),
            holders: vec![holder],
            place: Place {
                oid: row.map(|_| 5),
                relation: row.map(|_| "room".into()),
                row: row.map(String::from),
                ..Place::default()
            },
        }
    }

    #[test]
    fn blocked_time_is_what_lies_in_the_interval_and_outside_the_gate() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let ms = |d: Duration| d.as_millis();
        let watch = LockWatch::default();
        // 9 keeps the gate; 1 waits at it, 2 behind the row lock of 1, until the gate opens at 10
        let both = HashMap::from([(1, waiter(at(1), 9, None)), (2, waiter(at(2), 1, Some("(0,1)")))]);
        watch.record(at(5), HashMap::new(), &both);
        let one = HashMap::from([(2, waiter(at(2), 1, Some("(0,1)")))]);
        watch.record(at(30), HashMap::new(), &one);
        watch.record(
            at(60),
            HashMap::new(),
            &HashMap::from([(2, waiter(at(50), 1, Some("(0,2)")))]),
        );
        watch.set_arranged(Some(9), vec![(at(0), at(10))]);
        assert_eq!(ms(watch.blocked(1, at(0), at(100))), 0);
        assert_eq!(ms(watch.blocked(2, at(0), at(100))), 30);
        assert_eq!(ms(watch.blocked(2, at(25), at(52))), 7);
        assert_eq!(ms(watch.blocked(2, at(70), at(99))), 0);
        assert_eq!(ms(watch.blocked(3, at(0), at(100))), 0);
    }

    #[test]
    fn keys_are_asked_for_once_and_follow_the_row() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let watch = LockWatch::default();
        let queue = HashMap::from([
            (2, waiter(at(1), 1, Some("(0,1)"))),
            (3, waiter(at(2), 2, Some("(0,1)"))),
        ]);
        let todo = watch.record(at(5), HashMap::new(), &queue);
        assert_eq!(todo.rows, BTreeSet::from([(5, "(0,1)".to_string())]));
        watch.resolved(5, "(0,1)", "id = 7");
        assert!(watch.record(at(10), HashMap::new(), &queue).rows.is_empty());
        // 2 has got the row and changed it; 3 waits for 2's transaction
        watch.record(at(20), HashMap::new(), &HashMap::from([(3, waiter(at(12), 2, None))]));
        let place = watch.read(|seen| seen.current(3).unwrap().place.clone());
        assert_eq!(
            (place.relation.as_deref(), place.key.as_deref()),
            (Some("room"), Some("id = 7"))
        );
        // somebody who never stood in that queue holds something else
        watch.record(at(30), HashMap::new(), &HashMap::from([(3, waiter(at(25), 8, None))]));
        assert_eq!(watch.read(|seen| seen.current(3).unwrap().place.relation.clone()), None);
    }

    #[test]
    fn who_comes_to_the_head_of_a_queue_for_a_row_still_waits_for_it() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let watch = LockWatch::default();
        let states = |statement: u64| {
            let state = BackendState {
                statement: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(statement)),
                ..BackendState::default()
            };
            HashMap::from([(2, state)])
        };
        let waits = |began: u64, row| HashMap::from([(2, waiter(at(began), 1, Some(row)))]);
        let seen = |watch: &LockWatch| watch.read(|seen| seen.waits.len());
        watch.record(at(20), states(1), &waits(5, "(0,1)"));
        watch.record(at(40), states(1), &waits(30, "(0,1)"));
        assert_eq!(seen(&watch), 1);
        let blocked = watch.blocked(2, at(0), at(60));
        assert_eq!(blocked, Duration::from_millis(25), "not seen from 20 to 30");
        watch.record(at(60), states(1), &waits(50, "(0,9)"));
        assert_eq!(seen(&watch), 2, "another row");
        watch.record(at(80), states(2), &waits(70, "(0,9)"));
        assert_eq!(seen(&watch), 3, "another statement");
    }

    #[test]
    fn a_cycle_is_news_once_and_states_are_those_of_the_latest_sample() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let watch = LockWatch::default();
        let cycle = HashMap::from([
            (1, waiter(at(1), 2, None)),
            (2, waiter(at(2), 1, None)),
            (3, waiter(at(3), 1, None)),
        ]);
        let waits = BackendState {
            waits_for_a_lock: true,
            ..BackendState::default()
        };
        let todo = watch.record(at(5), HashMap::from([(1, waits)]), &cycle);
        assert_eq!(todo.cycle, BTreeMap::from([(1, vec![2]), (2, vec![1]), (3, vec![1])]));
        assert_eq!(watch.waiting_now(), 1);
        let places = cycle.iter().map(|(pid, w)| (*pid, w.place.clone())).collect();
        watch.sighted(Sighting {
            places,
            ..Sighting::new(at(5))
        });
        assert!(watch.record(at(10), HashMap::new(), &cycle).cycle.is_empty());
        assert_eq!(watch.waiting_now(), 0);
        let sightings = |pid, from| watch.sightings(pid, at(from), at(20)).len();
        assert_eq!([sightings(1, 0), sightings(1, 6), sightings(9, 0)], [1, 0, 0]);
        // the same two again
        let again = HashMap::from([(1, waiter(at(11), 2, None)), (2, waiter(at(12), 1, None))]);
        assert_eq!(watch.record(at(15), HashMap::new(), &again).cycle.len(), 2);
    }
}
