//! One wait of one process, and what of it counts.

use std::time::{Duration, Instant, SystemTime};

use super::graph::{Place, Root};

/// Waiting that the gate made.
#[derive(Clone, Debug, Default)]
pub(super) struct Arranged {
    /// The process that keeps the gate.
    pub(super) keeper: Option<i32>,
    /// When it was closed.
    pub(super) closed: Vec<(Instant, Instant)>,
}

/// One wait of one process, over the samples in which it was seen. Who comes to the head of a queue for a row waits anew, for
/// whoever has it now; that is the same wait.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) pid: i32,
    /// When its statement began, by the server's clock.
    pub(super) statement: Option<SystemTime>,
    pub(super) place: Place,
    pub(super) segments: Vec<Segment>,
}

/// A part of a wait in which the same process, in the same state, stood at the end of the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// The samples that saw it, from 0.
    pub(super) samples: (usize, usize),
    pub(super) root: Root,
    /// Whether the root had a transaction open, and nothing to do.
    pub(super) idle: bool,
}

/// How a waiter stands in a sample.
#[derive(Clone, Copy)]
pub(super) struct Stand {
    pub(super) at: Instant,
    /// The sample before.
    pub(super) before: Option<Instant>,
    pub(super) sample: usize,
    pub(super) root: Root,
    pub(super) idle: bool,
    /// When its statement began, by the server's clock.
    pub(super) statement: Option<SystemTime>,
}

impl Stand {
    pub(super) fn segment(&self, from: Instant) -> Segment {
        Segment {
            from,
            to: self.at,
            samples: (self.sample, self.sample),
            root: self.root,
            idle: self.idle,
        }
    }
}

impl Wait {
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.segments.last()?.to)
    }

    pub(super) fn seen_in(&self, sample: usize) -> bool {
        self.segments.last().is_some_and(|s| s.samples.1 == sample)
    }

    /// It waits on, without having got the lock for a moment, at the place where it waited before.
    pub(super) fn waits_again(&mut self, began: Instant, stand: Stand) {
        self.segments.push(stand.segment(began));
    }

    pub(super) fn go_on(&mut self, stand: Stand) {
        // one that began just before a sample may be seen without its statement
        self.statement = self.statement.or(stand.statement);
        let Some(last) = self.segments.last_mut() else { return };
        // a chain that was cut while it was read says nothing new of its end
        if stand.root == Root::Gone || (stand.root, stand.idle) == (last.root, last.idle) {
            last.to = stand.at;
            last.samples.1 = stand.sample;
        } else {
            // what lies between two samples is charged to the later one
            let from = stand.before.unwrap_or(last.to).max(last.to).min(stand.at);
            last.to = from;
            self.segments.push(stand.segment(from));
        }
    }
}

impl Arranged {
    /// How much of a segment, between two moments, counts as waiting.
    pub(super) fn waited(&self, segment: &Segment, from: Instant, to: Instant) -> Duration {
        if self.keeper.is_some_and(|pid| segment.root == Root::Holder(pid)) {
            return Duration::ZERO;
        }
        outside(segment.from.max(from), segment.to.min(to), &self.closed)
    }

    /// Whether the gate was closed then.
    pub(super) fn is_closed(&self, at: Instant) -> bool {
        self.closed.iter().any(|(from, to)| *from <= at && at <= *to)
    }
}

/// The part of an interval that lies outside all the others.
fn outside(from: Instant, to: Instant, closed: &[(Instant, Instant)]) -> Duration {
    let whole = to.saturating_duration_since(from);
    let inside: Duration = closed
        .iter()
        .map(|(a, b)| to.min(*b).saturating_duration_since(from.max(*a)))
        .sum();
    whole.saturating_sub(inside)
}
