//! What is measured in a round, counted as it happens: memory doesn't grow with the number of attempts.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::draw::Ticket;
use super::ending::Ending;
use crate::outcome::{Outcome, Outcomes};
use crate::report::Times;
use crate::scenario::{Measure, Must, Of, Plan};
use crate::watch::{Deadlock, Meetings};

/// Latencies that the progress display gets at least, before they are thinned out.
const WINDOW_MIN: u64 = 500;
/// Winners remembered for a key; the count goes on.
const WINNERS_MAX: usize = 100;
/// Attempts remembered for `settle`.
pub(super) const LEDGER_MAX: usize = 20_000;
/// Start-gate releases remembered.
const RELEASES_MAX: usize = 100_000;

/// The counts of a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) outcomes: Outcomes,
    pub(crate) groups: Vec<GroupTally>,
    /// By index of the key's row; the last one is for attempts without a key.
    pub(crate) keys: Vec<KeyTally>,
    pub(crate) refusals: HashMap<Kind, Refused>,
    /// When a session sent its step, and when the start gate let it go by the server's clock.
    pub(crate) releases: Vec<(Instant, SystemTime)>,
    pub(crate) meetings: Meetings,
    pub(crate) deadlocks: Vec<Deadlock>,
    /// Attempts of groups that settle.
    pub(crate) ledger: Vec<Entry>,
    pub(crate) ledger_left_out: u64,
    /// Latencies since the progress display last took them.
    pub(crate) window: Times,
}

/// The counts of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupTally {
    pub(crate) outcomes: Outcomes,
    /// Whole attempts, by outcome.
    pub(crate) latency: ByOutcome,
    pub(crate) steps: Vec<StepTally>,
    /// Tries over all attempts.
    pub(crate) tries: u64,
    /// Attempts accepted at try 1, 2, ...
    pub(crate) accepted_at: Vec<u64>,
    /// Time spent in tries that failed and were tried again.
    pub(crate) wasted: Duration,
    /// Starts that found no free session, or were never made.
    pub(crate) dropped: u64,
    pub(crate) interrupted: u64,
    /// How much later than planned starts were made (rates).
    pub(crate) lag: Times,
    pub(crate) pool: PoolTally,
    /// By session of the group: attempts, and how many were accepted.
    pub(crate) sessions: Vec<(u64, u64)>,
}

/// How a group fared at its pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolTally {
    pub(crate) wait: Times,
    /// None was free in time.
    pub(crate) wait_timeouts: u64,
    /// None was free in time for one who held another one.
    pub(crate) nested_timeouts: u64,
    /// A new one was not made in time.
    pub(crate) create_timeouts: u64,
    /// The server had no room: 53300.
    pub(crate) server_full: u64,
    /// A new one failed otherwise.
    pub(crate) connect_errors: u64,
}

/// The counts of a step; every try counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepTally {
    pub(crate) outcomes: Outcomes,
    pub(crate) latency: ByOutcome,
    /// Over all of them.
    pub(crate) took: Duration,
    /// Time it stood behind locks, as far as the samples have seen it.
    pub(crate) blocked: Duration,
    /// By key, like [`Tally::keys`].
    pub(crate) keys: Vec<Outcomes>,
    /// By key, where a rule asks for it: each latency in microseconds.
    pub(crate) key_times: Option<Vec<Vec<u32>>>,
}

/// The counts of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyTally {
    pub(crate) outcomes: Outcomes,
    /// `(group, session)`, in the order of acceptance.
    pub(crate) winners: Vec<(usize, u32)>,
}

/// A distribution for each outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByOutcome([Times; Outcome::ALL.len()]);

/// What makes two failures the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Group and step; none when there was no connection. The commit stands behind the last step, and what begins it
    /// all behind that.
    pub(crate) step: Option<(usize, usize)>,
    pub(crate) outcome: Outcome,
    pub(crate) sqlstate: Option<String>,
    pub(crate) constraint: Option<String>,
    /// Where there is no SQLSTATE.
    pub(crate) message: Option<String>,
}

/// Failures of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) first: Ending,
    pub(crate) count: u64,
}

/// An attempt that will be settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) group: usize,
    pub(crate) ticket: Ticket,
    pub(crate) key: Option<usize>,
    pub(crate) outcome: Outcome,
}

impl ByOutcome {
    pub(crate) fn record(&mut self, outcome: Outcome, time: Duration) {
        self.0[outcome as usize].record(time);
    }

    pub(crate) fn get(&self, outcome: Outcome) -> &Times {
        &self.0[outcome as usize]
    }

    pub(crate) fn merge(&mut self, other: &ByOutcome) {
        for (times, other) in self.0.iter_mut().zip(&other.0) {
            times.merge(other);
        }
    }

    /// All outcomes in one.
    pub(crate) fn all(&self) -> Times {
        let mut all = Times::default();
        self.0.iter().for_each(|t| all.merge(t));
        all
    }
}

impl GroupTally {
    /// Adds what was counted in another round, but for what is kept by key and by session.
    pub(crate) fn merge(&mut self, other: &GroupTally) {
        self.outcomes.merge(&other.outcomes);
        self.latency.merge(&other.latency);
        self.steps
            .resize(self.steps.len().max(other.steps.len()), StepTally::default());
        for (all, one) in self.steps.iter_mut().zip(&other.steps) {
            all.outcomes.merge(&one.outcomes);
            all.latency.merge(&one.latency);
            all.took += one.took;
            all.blocked += one.blocked;
        }
        self.tries += other.tries;
        self.accepted_at
            .resize(self.accepted_at.len().max(other.accepted_at.len()), 0);
        for (all, one) in self.accepted_at.iter_mut().zip(&other.accepted_at) {
            *all += one;
        }
        self.wasted += other.wasted;
        self.dropped += other.dropped;
        self.interrupted += other.interrupted;
        self.lag.merge(&other.lag);
        self.pool.wait.merge(&other.pool.wait);
        self.pool.wait_timeouts += other.pool.wait_timeouts;
        self.pool.nested_timeouts += other.pool.nested_timeouts;
        self.pool.create_timeouts += other.pool.create_timeouts;
        self.pool.server_full += other.pool.server_full;
        self.pool.connect_errors += other.pool.connect_errors;
    }
}

impl Tally {
    pub(crate) fn new(plan: &Plan, keys: usize) -> Tally {
        let timed_by_key = |step: &str| {
            plan.rules.iter().any(|rule| {
                let per_key = matches!(rule.must, Must::Time { per_key: true, .. });
                per_key && matches!(&rule.measure, Measure::Latency { of: Of::Step(s), .. } if s == step)
            })
        };
        let group = |group: &crate::scenario::Group| GroupTally {
            sessions: vec![(0, 0); group.sessions as usize],
            steps: group
                .steps
                .iter()
                .map(|step| StepTally {
                    keys: vec![Outcomes::default(); keys + 1],
                    key_times: timed_by_key(&step.name).then(|| vec![Vec::new(); keys + 1]),
                    ..StepTally::default()
                })
                .collect(),
            ..GroupTally::default()
        };
        Tally {
            groups: plan.groups.iter().map(group).collect(),
            keys: vec![KeyTally::default(); keys + 1],
            ..Tally::default()
        }
    }

    /// A step was answered, in any try.
    pub(crate) fn step(&mut self, group: usize, step: usize, key: Option<usize>, outcome: Outcome, took: Duration) {
        let key = key.unwrap_or(self.keys.len() - 1);
        let tally = &mut self.groups[group].steps[step];
        tally.outcomes.add(outcome);
        tally.latency.record(outcome, took);
        tally.took += took;
        tally.keys[key].add(outcome);
        if let Some(times) = &mut tally.key_times {
            times[key].push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Something was not accepted.
    pub(crate) fn refused(&mut self, step: Option<(usize, usize)>, ending: &Ending) {
        let kind = Kind {
            step,
            outcome: ending.outcome(),
            sqlstate: ending.sqlstate.clone(),
            constraint: ending.constraint.clone(),
            message: ending.sqlstate.is_none().then(|| ending.message.clone()),
        };
        let refused = self.refusals.entry(kind).or_insert_with(|| Refused {
            first: ending.clone(),
            count: 0,
        });
        refused.count += 1;
    }

    /// An attempt is over.
    pub(crate) fn attempt(&mut self, entry: Entry, number: u32, tries: u32, took: Duration, settles: bool) {
        let Entry {
            group, key, outcome, ..
        } = entry;
        self.outcomes.add(outcome);
        // of many, some tell as much
        if self.window.count() < WINDOW_MIN || self.outcomes.total().is_multiple_of(8) {
            self.window.record(took);
        }
        let last = self.keys.len() - 1;
        let by_key = &mut self.keys[key.unwrap_or(last)];
        by_key.outcomes.add(outcome);
        let of_group = &mut self.groups[group];
        of_group.outcomes.add(outcome);
        of_group.latency.record(outcome, took);
        of_group.tries += u64::from(tries);
        let session = &mut of_group.sessions[number as usize - 1];
        session.0 += 1;
        if outcome == Outcome::Accepted {
            session.1 += 1;
            if by_key.winners.len() < WINNERS_MAX {
                by_key.winners.push((group, entry.ticket.session));
            }
            let at = tries as usize;
            if of_group.accepted_at.len() < at {
                of_group.accepted_at.resize(at, 0);
            }
            of_group.accepted_at[at - 1] += 1;
        }
        if settles {
            // those in doubt are what it is for
            if self.ledger.len() < LEDGER_MAX || outcome == Outcome::InDoubt {
                self.ledger.push(entry);
            } else {
                self.ledger_left_out += 1;
            }
        }
    }

    /// It is known what became of an attempt in doubt. The step it was lost in stays in doubt.
    pub(crate) fn settle(&mut self, entry: Entry, outcome: Outcome) {
        let last = self.keys.len() - 1;
        let key = &mut self.keys[entry.key.unwrap_or(last)];
        for outcomes in [
            &mut self.outcomes,
            &mut key.outcomes,
            &mut self.groups[entry.group].outcomes,
        ] {
            outcomes.move_one(Outcome::InDoubt, outcome);
        }
        if outcome == Outcome::Accepted {
            self.groups[entry.group].sessions[entry.ticket.number as usize - 1].1 += 1;
            if key.winners.len() < WINNERS_MAX {
                key.winners.push((entry.group, entry.ticket.session));
            }
        }
        // with a single step, the attempt's outcome is the step's
        if let [step] = self.groups[entry.group].steps.as_mut_slice() {
            step.outcomes.move_one(Outcome::InDoubt, outcome);
            step.keys[entry.key.unwrap_or(last)].move_one(Outcome::InDoubt, outcome);
        }
    }

    /// The start gate let a step go.
    pub(crate) fn released(&mut self, sent: Instant, at: SystemTime) {
        if self.releases.len() < RELEASES_MAX {
            self.releases.push((sent, at));
        }
    }
}
