//! One attempt: a connection, the steps, the commit; and again, where the scenario retries.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::call::Limits;
use super::draw::{Ticket, key};
use super::ending::Ending;
use super::session::{Pass, Session};
use super::tally::Entry;
use crate::outcome::Outcome;

/// What an attempt has come to, over its tries.
pub(super) struct Course {
    pub(super) ticket: Ticket,
    pub(super) began: Instant,
    /// Time at gates, which is not its own.
    pub(super) held: Duration,
    pub(super) until: Option<Instant>,
    pub(super) in_flight: bool,
    pub(super) key: Option<usize>,
}

/// How a try ended.
pub(super) enum Tried {
    Ended(Ending),
    /// Cancelled because the schedule was over or the run stopped, or never begun for that reason.
    Interrupted,
}

/// A step that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) step: usize,
    pub(super) ending: Ending,
    pub(super) took: Duration,
    /// Of that, seen waiting for locks.
    pub(super) blocked: Duration,
}

impl Answered {
    /// A step that ended before it was sent.
    pub(super) fn unsent(step: usize, ending: Ending) -> Answered {
        Answered {
            step,
            ending,
            took: Duration::ZERO,
            blocked: Duration::ZERO,
        }
    }
}

impl Session<'_> {
    /// Makes an attempt, and counts it.
    pub(crate) async fn attempt(&mut self, pass: Pass) {
        let arena = self.arena;
        let plan = &arena.plan;
        let pick = plan.pick();
        let key = key(plan.seed, pass.ticket, arena.keys.len(), pick);
        let began = Instant::now();
        let mut course = Course {
            ticket: pass.ticket,
            began,
            held: Duration::ZERO,
            until: pass.until,
            in_flight: false,
            key,
        };
        let mut tries = 0;
        let mut try_began = began;
        let tried = loop {
            tries += 1;
            let tried = self.attempt_once(&mut course, tries == 1).await;
            let Tried::Ended(ending) = &tried else { break tried };
            match self.retry_after(ending, tries, &course) {
                Some(backoff) => {
                    arena.tally().groups[self.chair.group].wasted += try_began.elapsed();
                    if !arena.pause(backoff).await {
                        break Tried::Interrupted;
                    }
                    try_began = Instant::now();
                }
                None => break tried,
            }
        };
        let over = Instant::now();
        let took = (over - pass.due.unwrap_or(began)).saturating_sub(course.held);
        let mut tally = arena.tally();
        if course.in_flight {
            tally.meetings.end(course.key);
        }
        let Tried::Ended(ending) = tried else {
            // one that did nothing was not made
            tally.groups[self.chair.group].interrupted += u64::from(course.in_flight);
            return;
        };
        let entry = Entry {
            group: self.chair.group,
            ticket: pass.ticket,
            key,
            outcome: ending.outcome(),
        };
        self.answered_at = (entry.outcome == Outcome::Accepted).then_some(over);
        tally.attempt(entry, self.chair.number, tries, took, self.group.settle.is_some());
        drop(tally);
        if self.group.leak.contains(&entry.outcome)
            && arena.round > 0
            && let Some(lease) = self.lease.take()
        {
            arena.leak(self.seat, *lease);
        }
    }

    /// How long to wait before another try; none: there is none.
    fn retry_after(&mut self, ending: &Ending, tries: u32, course: &Course) -> Option<Duration> {
        let retry = self.group.retry.as_ref()?;
        let again = ending.outcome() != Outcome::Rejected
            && ending.sqlstate.as_ref().is_some_and(|s| retry.on.contains(s))
            && tries <= retry.times
            && !self.is_stopped();
        if !again {
            return None;
        }
        // full jitter: sessions that collided do not come back together
        let bound = retry.bound(tries);
        let backoff = match bound.is_zero() {
            true => bound,
            false => self.rng.random_range(Duration::ZERO..=bound),
        };
        // a try that the attempt's own limit would cut short at once is none
        let spent = course.began.elapsed().saturating_sub(course.held) + backoff;
        let limits = [retry.budget, self.group.timeout];
        let in_time = limits.into_iter().flatten().all(|limit| spent < limit);
        in_time.then_some(backoff)
    }

    async fn attempt_once(&mut self, course: &mut Course, first: bool) -> Tried {
        let mut lease = match self.connection(course).await {
            Some(Ok(lease)) => lease,
            Some(Err(error)) => return Box::pin(self.refused(error)).await,
            None => return Tried::Interrupted,
        };
        if self.is_stopped() {
            self.lease = Some(lease);
            return Tried::Interrupted;
        }
        let mut answered = std::mem::take(&mut self.answered);
        let tried = self.transaction(course, first, &mut lease, &mut answered).await;
        let lost = match &tried {
            Tried::Ended(ending) if ending.outcome() == Outcome::InDoubt => true,
            // whoever takes it next looks again
            Tried::Ended(ending) if ending.outcome() == Outcome::Accepted => false,
            _ => lease.is_closed(),
        };
        if lost {
            lease.discard();
            self.arena.board.gave_back(self.seat);
        } else {
            self.lease = Some(lease);
        }
        self.count(course.key, &tried, &mut answered);
        self.answered = answered;
        tried
    }

    /// A try's steps are counted when it is over: what was rolled back ended as the whole did, and an interrupted whole
    /// has no outcome.
    fn count(&self, key: Option<usize>, tried: &Tried, answered: &mut Vec<Answered>) {
        let mut tally = self.arena.tally();
        let whole = match tried {
            Tried::Ended(ending) => Some(ending.outcome()),
            Tried::Interrupted => None,
        };
        for Answered {
            step,
            ending,
            took,
            blocked,
        } in answered.drain(..)
        {
            tally.groups[self.chair.group].steps[step].blocked += blocked;
            let own = ending.outcome();
            let outcome = match own {
                Outcome::Accepted if self.group.transaction.is_some() => whole,
                own => Some(own),
            };
            if let Some(outcome) = outcome {
                tally.step(self.chair.group, step, key, outcome, took);
            }
            if own != Outcome::Accepted {
                tally.refused(Some((self.chair.group, step)), &ending);
            }
        }
    }

    pub(super) fn limits(&self, course: &Course, step: Duration, from: Instant) -> Limits {
        let own = self.group.timeout.map(|timeout| course.began + course.held + timeout);
        Limits {
            from,
            step,
            until: [own, course.until].into_iter().flatten().min(),
        }
    }

    /// Whether a statement was cancelled because the schedule was over, or the run stopped.
    pub(super) fn is_interruption(&self, ending: &Ending, course: &Course) -> bool {
        let over = || course.until.is_some_and(|until| Instant::now() >= until);
        ending.is_cancel() && (self.is_stopped() || over())
    }
}
