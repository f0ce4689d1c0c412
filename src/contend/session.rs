//! A racing session: when it makes attempts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::alarm::Alarm;
use super::arena::Arena;
use super::attempt::Answered;
use super::contest::Chair;
use super::draw::{Ticket, generator};
use crate::postgres::pool::Lease;
use crate::scenario::{Group, Pause, Schedule};

/// A session, and what it has between its attempts.
pub(crate) struct Session<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) seat: usize,
    pub(crate) chair: Chair,
    pub(crate) group: &'a Group,
    /// For pauses; keys and parameters have a generator of their own for each attempt.
    pub(crate) rng: Xoshiro256PlusPlus,
    /// Kept over attempts, and while it thinks.
    pub(crate) lease: Option<Box<Lease>>,
    /// When its latest attempt was over, if that was accepted.
    pub(super) answered_at: Option<Instant>,
    /// For the limits of its statements.
    pub(crate) alarm: Alarm,
    /// Room for the answers of a try.
    pub(super) answered: Vec<Answered>,
    /// Whether the connection is its own as long as the round lasts.
    keeps: bool,
    iteration: u32,
}

/// One attempt to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) ticket: Ticket,
    /// When it should have begun: under a rate, latency counts from here.
    pub(crate) due: Option<Instant>,
    /// When it is cancelled because the schedule is over.
    pub(crate) until: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(arena: &'a Arena, seat: usize, chair: Chair) -> Session<'a> {
        let group = &arena.plan.groups[chair.group];
        Session {
            arena,
            seat,
            chair,
            group,
            rng: generator(arena.plan.seed, arena.round, chair.session, 0),
            lease: None,
            answered_at: None,
            alarm: Alarm::new(),
            answered: Vec::new(),
            // where there is a connection for everybody, nobody asks for one again and again
            keeps: arena.round > 0 && arena.plan.pools[group.pool].size.is_none(),
            iteration: 0,
        }
    }

    /// Makes attempts until the schedule is over or the round is stopped.
    pub(crate) async fn run(mut self) {
        // starts at a rate come when they are due, and find their sessions waiting
        let start = match self.group.schedule {
            Schedule::Rate { .. } => Duration::ZERO,
            _ => self.group.start,
        };
        if self.arena.pause(start).await {
            self.follow().await;
        }
        self.give_back();
        self.arena.board.done(self.seat);
    }

    async fn follow(&mut self) {
        let began = self.arena.began + self.group.start;
        match &self.group.schedule {
            Schedule::PerSession { iterations, max } => {
                for made in 0..*iterations {
                    if self.is_stopped() {
                        return;
                    }
                    if began.elapsed() >= *max {
                        let left = u64::from(iterations - made);
                        self.arena.tally().groups[self.chair.group].dropped += left;
                        return;
                    }
                    self.pass(None, began + *max, self.group.grace).await;
                }
            }
            Schedule::Shared { iterations, max } => {
                let drawn = &self.arena.drawn[self.chair.group];
                while !self.is_stopped() && drawn.fetch_add(1, Ordering::Relaxed) < *iterations {
                    if began.elapsed() >= *max {
                        self.arena.tally().groups[self.chair.group].dropped += 1;
                        continue;
                    }
                    self.pass(None, began + *max, self.group.grace).await;
                }
            }
            Schedule::Constant { duration } => {
                while !self.is_stopped() && began.elapsed() < *duration {
                    self.pass(None, began + *duration, self.group.grace).await;
                }
            }
            Schedule::Ramping { ramp, ramp_down } => {
                let seat = f64::from(self.chair.number);
                while let Some(from) = ramp.reaches(seat, began.elapsed()) {
                    let wait = (began + from).saturating_duration_since(Instant::now());
                    if !wait.is_zero() {
                        // out of the race for now: it needs no connection
                        self.give_back();
                    }
                    if !self.arena.pause(wait).await {
                        return;
                    }
                    let out = ramp.falls_below(seat, began.elapsed());
                    let grace = match out < ramp.duration() {
                        true => *ramp_down,
                        false => self.group.grace,
                    };
                    self.pass(None, began + out, grace).await;
                }
            }
            Schedule::Rate { ramp } => {
                let over = began + ramp.duration();
                while let Some(due) = self.arena.arrivals[self.chair.group].next().await {
                    self.pass(Some(due), over, self.group.grace).await;
                }
            }
        }
    }

    /// One attempt, and the pause after it, which ends when the schedule is over for this session.
    async fn pass(&mut self, due: Option<Instant>, over: Instant, grace: Duration) {
        self.next(due, Some(over + grace)).await;
        self.arena.board.idle(self.seat);
        let mut think = self.drawn(self.group.think);
        if !think.is_zero() {
            think = think.min(over.saturating_duration_since(Instant::now()));
        }
        if think.is_zero() {
            if !self.keeps {
                self.give_back();
            }
            return;
        }
        if !self.keeps && !self.group.holds {
            self.give_back();
        }
        self.arena.pause(think).await;
        if !self.keeps {
            self.give_back();
        }
    }

    /// The next attempt.
    pub(crate) async fn next(&mut self, due: Option<Instant>, until: Option<Instant>) {
        self.iteration += 1;
        let ticket = Ticket {
            round: self.arena.round,
            session: self.chair.session,
            number: self.chair.number,
            iteration: self.iteration,
        };
        self.attempt(Pass { ticket, due, until }).await;
    }

    /// Gives the connection back.
    pub(crate) fn give_back(&mut self) {
        if self.lease.take().is_some() {
            self.arena.board.gave_back(self.seat);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.arena.stop.is_requested()
    }

    /// A length of time between two.
    pub(crate) fn drawn(&mut self, pause: Pause) -> Duration {
        match pause.from < pause.to {
            true => self.rng.random_range(pause.from..=pause.to),
            false => pause.from,
        }
    }
}
