//! Waits for locks, summed up: by what was waited for, and by who held it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::graph::Root;
use super::locks::{LockWatch, Seen};
use super::timeline::Timeline;
use super::wait::{Segment, Wait};

/// Waits for one lock: a row, a table, an advisory lock, or what the server doesn't name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LockWaits {
    /// The table; for what is no table, what it is (`advisory lock 42`). None where the server shows nothing (a unique
    /// key, for example).
    pub relation: Option<String>,
    /// The row's key: `id = 7`.
    pub key: Option<String>,
    /// The lock that was wanted: `FOR UPDATE`.
    pub lock: Option<String>,
    /// Waits seen. A statement's wait for a row is one, whoever holds the row meanwhile.
    pub waits: u64,
    /// Time waited in all, in milliseconds, up to the last sample that saw each.
    pub total_ms: f64,
    /// The longest wait, in milliseconds.
    pub max_ms: f64,
    /// The most waiters at once behind one holder.
    pub longest_queue: u64,
    /// The part of the time in which the holder had its transaction open and nothing to do, in milliseconds.
    pub idle_in_transaction_ms: f64,
    /// Those at the end of the chain of waiters, by what they did, longest first.
    pub behind: Vec<Holder>,
}

/// Who held what others waited for, and what it did meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Holder {
    /// `guest 17`.
    pub who: String,
    /// `in hold`, `idle in transaction after hold`; none where nobody knows.
    pub doing: Option<String>,
    /// Waits charged to it.
    pub waits: u64,
    /// Time charged to it, in milliseconds.
    pub ms: f64,
}

impl LockWatch {
    /// The waits of the race's sessions, longest first.
    pub(crate) fn lock_waits(&self, timeline: &Timeline) -> Vec<LockWaits> {
        self.read(|seen| {
            let mut groups: BTreeMap<_, Vec<&Wait>> = BTreeMap::new();
            for wait in seen.waits.iter().filter(|w| timeline.knows(w.pid)) {
                let place = &wait.place;
                let name = (place.relation.clone(), place.key.clone(), place.lock.clone());
                groups.entry(name).or_default().push(wait);
            }
            let sums = groups.into_iter().map(|((relation, key, lock), waits)| LockWaits {
                relation,
                key,
                lock,
                ..sum(&waits, seen, timeline)
            });
            in_order(sums.filter(|w| w.waits > 0).collect())
        })
    }
}

impl LockWaits {
    /// The waits of several rounds.
    pub(crate) fn merge<'a>(all: impl Iterator<Item = &'a LockWaits>) -> Vec<LockWaits> {
        let mut merged: Vec<LockWaits> = Vec::new();
        for waits in all {
            let same = |m: &&mut LockWaits| m.relation == waits.relation && m.key == waits.key && m.lock == waits.lock;
            let Some(known) = merged.iter_mut().find(same) else {
                merged.push(waits.clone());
                continue;
            };
            known.waits += waits.waits;
            known.total_ms += waits.total_ms;
            known.max_ms = known.max_ms.max(waits.max_ms);
            known.longest_queue = known.longest_queue.max(waits.longest_queue);
            known.idle_in_transaction_ms += waits.idle_in_transaction_ms;
            for holder in &waits.behind {
                charge(&mut known.behind, holder);
            }
        }
        in_order(merged)
    }
}

fn sum(waits: &[&Wait], seen: &Seen, timeline: &Timeline) -> LockWaits {
    let mut sum = LockWaits::default();
    // by holder and sample
    let mut queues: HashMap<(Root, usize), u64> = HashMap::new();
    for wait in waits {
        let mut whole = Duration::ZERO;
        for segment in &wait.segments {
            let waited = seen.arranged.waited(segment, segment.from, segment.to);
            if waited.is_zero() {
                continue;
            }
            whole += waited;
            if segment.idle {
                sum.idle_in_transaction_ms += ms(waited);
            }
            for sample in segment.samples.0..=segment.samples.1 {
                if !seen.arranged.is_closed(seen.samples[sample]) {
                    *queues.entry((segment.root, sample)).or_default() += 1;
                }
            }
            charge(&mut sum.behind, &holder(segment, waited, timeline));
        }
        sum.waits += u64::from(!whole.is_zero());
        sum.total_ms += ms(whole);
        sum.max_ms = sum.max_ms.max(ms(whole));
    }
    sum.longest_queue = queues.into_values().max().unwrap_or(sum.waits.min(1));
    sum
}

fn holder(segment: &Segment, waited: Duration, timeline: &Timeline) -> Holder {
    let (who, doing) = match segment.root {
        Root::Cycle => ("one another".to_string(), None),
        Root::Gone => ("a session that had gone on".to_string(), None),
        // as it was when the waiting was seen last
        Root::Holder(pid) => match timeline.at(pid, segment.to) {
            None => (
                format!("process {pid}"),
                segment.idle.then(|| "idle in transaction".to_string()),
            ),
            Some(step) if segment.idle => (
                step.session.clone(),
                Some(format!("idle in transaction after {}", step.step)),
            ),
            Some(step) => (step.session.clone(), Some(format!("in {}", step.step))),
        },
    };
    Holder {
        who,
        doing,
        waits: 1,
        ms: ms(waited),
    }
}

fn charge(all: &mut Vec<Holder>, holder: &Holder) {
    match all.iter_mut().find(|h| h.who == holder.who && h.doing == holder.doing) {
        None => all.push(holder.clone()),
        Some(known) => {
            known.waits += holder.waits;
            known.ms += holder.ms;
        }
    }
}

fn in_order(mut all: Vec<LockWaits>) -> Vec<LockWaits> {
    for waits in &mut all {
        waits.behind.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    }
    all.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
    all
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::activity::BackendState;
    use super::super::graph::{Place, Waiter};
    use super::super::timeline::Stretch;
    use super::*;
    use std::time::Instant;

    fn waiter(began: Instant, holder: i32, key: &str) -> Waiter {
        let place = Place {
            oid: Some(5),
            relation: Some("room".into()),
            key: Some(key.into()),
            lock: Some("FOR UPDATE".into()),
            ..Place::default()
        };
        Waiter {
            began: Some(began),
            holders: vec![holder],
            place,
        }
    }

    #[test]
    fn waits_are_summed_by_lock_and_charged_to_what_the_holder_did() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        for pid in [1, 2, 3] {
            let stretch = Stretch {
                session: format!("guest {pid}"),
                step: "hold".into(),
                from: at(0),
                to: at(15),
                context: None,
            };
            timeline.add(pid, stretch);
        }
        let state = |state: &str| {
            let state = BackendState {
                is_idle_in_transaction: state == "idle in transaction",
                ..BackendState::default()
            };
            HashMap::from([(1, state)])
        };
        let watch = LockWatch::default();
        // 1 holds the row, at work until 20 and idle then; 2 and 3 queue for it; 4 is none of the race's
        let queue = || {
            HashMap::from([
                (2, waiter(at(10), 1, "id = 7")),
                (3, waiter(at(12), 2, "id = 7")),
                (4, waiter(at(1), 1, "id = 8")),
            ])
        };
        watch.record(at(20), state("active"), &queue());
        watch.record(at(30), state("idle in transaction"), &queue());
        watch.record(at(50), state("idle in transaction"), &queue());
        let all = watch.lock_waits(&timeline);
        assert_eq!(all.len(), 1);
        let waits = &all[0];
        assert_eq!((waits.waits, waits.longest_queue), (2, 2));
        assert_eq!(
            (waits.total_ms, waits.max_ms, waits.idle_in_transaction_ms),
            (78.0, 40.0, 60.0)
        );
        let holder = |i: usize| {
            (
                waits.behind[i].who.as_str(),
                waits.behind[i].doing.as_deref(),
                waits.behind[i].ms,
            )
        };
        assert_eq!(holder(0), ("guest 1", Some("idle in transaction after hold"), 60.0));
        assert_eq!(holder(1), ("guest 1", Some("in hold"), 18.0));

        let twice = LockWaits::merge(all.iter().chain(&all));
        assert_eq!((twice.len(), twice[0].waits, twice[0].total_ms), (1, 4, 156.0));
        assert_eq!((twice[0].behind.len(), twice[0].longest_queue), (2, 2));
    }

    #[test]
    fn what_the_gate_made_is_left_out() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        let stretch = Stretch {
            session: "guest 2".into(),
            step: "hold".into(),
            from: at(0),
            to: at(50),
            context: None,
        };
        timeline.add(2, stretch);
        let watch = LockWatch::default();
        watch.record(at(5), HashMap::new(), &HashMap::from([(2, waiter(at(1), 9, "id = 7"))]));
        watch.set_arranged(Some(9), vec![(at(0), at(10))]);
        assert_eq!(watch.lock_waits(&timeline), []);
    }
}
