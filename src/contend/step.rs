//! An attempt's steps: each waits for the gate, and is sent and answered.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::attempt::{Answered, Course, Tried};
use super::board::Activity;
use super::call::within;
use super::draw::{Origin, TextRow, Ticket, Values, kept, missing};
use super::ending::Ending;
use super::session::Session;
use crate::outcome::Outcome;
use crate::postgres::interruptible;
use crate::postgres::pool::{AcquireError, Lease};
use crate::scenario::{Gate, Step};

/// Returns when the lock is had: the release, and the moment as the server sees it, in microseconds since 1970.
const START: &str = "select pg_catalog.pg_advisory_xact_lock_shared($1),
    (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::int8";

/// Shorter waits are not looked for: the samples hardly see them.
const WAIT_MIN: Duration = Duration::from_millis(2);

impl Session<'_> {
    pub(super) async fn steps(
        &mut self,
        course: &mut Course,
        first: bool,
        lease: &mut Lease,
        answered: &mut Vec<Answered>,
    ) -> Tried {
        let arena = self.arena;
        let mut results: Vec<Option<TextRow>> = Vec::new();
        let captures = arena.prepared.captures[self.chair.group].contains(&true);
        for (i, step) in self.group.steps.iter().enumerate() {
            if i > 0 && self.group.gate != Gate::None {
                // it is on its way to the next statement
                arena.board.released(self.seat);
            }
            if !step.pause.to.is_zero() {
                let pause = self.drawn(step.pause);
                if !arena.pause(pause).await {
                    return Tried::Interrupted;
                }
            }
            let origins = &arena.prepared.origins[self.chair.group][i];
            if let Some(from) = missing(&results, origins) {
                let earlier = &self.group.steps[from].name;
                let message = format!("`{}` needs a result of `{earlier}`, which returned no row", step.name);
                let ending = Ending::local(Outcome::Error, message);
                answered.push(Answered::unsent(i, ending.clone()));
                return Tried::Ended(ending);
            }
            // in a transaction only the first step can be held: a later one may hold what the gate wants
            let gated = first && (i == 0 || self.group.transaction.is_none());
            let run = match step.second_connection {
                true => match Box::pin(self.step_on_second(course, i, step, &results, gated)).await {
                    Ok(run) => run,
                    Err(error) => return Box::pin(self.refused(error)).await,
                },
                false => self.step(course, i, step, lease, &results, gated).await,
            };
            let Some((answer, row)) = run else {
                return Tried::Interrupted;
            };
            if self.is_interruption(&answer.ending, course) {
                return Tried::Interrupted;
            }
            let refused = (answer.ending.outcome() != Outcome::Accepted).then(|| answer.ending.clone());
            answered.push(answer);
            if captures {
                results.push(row);
            }
            if let Some(ending) = refused {
                return Tried::Ended(ending);
            }
        }
        Tried::Ended(Ending::accepted())
    }

    /// Runs a step on a second connection.
    pub(super) async fn step_on_second(
        &mut self,
        course: &mut Course,
        index: usize,
        step: &Step,
        results: &[Option<TextRow>],
        gated: bool,
    ) -> Result<Option<(Answered, Option<TextRow>)>, AcquireError> {
        self.arena.board.queued_again(self.seat);
        let Some(second) = self.acquire(course, true).await else {
            return Ok(None);
        };
        let mut second = second?;
        self.arena.board.took(self.seat, second.pid);
        let run = match self.settings(&mut second).await {
            Ok(()) => self.step(course, index, step, &mut second, results, gated).await,
            Err(ending) => Some((Answered::unsent(index, ending), None)),
        };
        drop(second);
        self.arena.board.gave_back_second(self.seat);
        Ok(run)
    }

    /// Waits for the gate and runs a step; none when the round is being stopped.
    pub(super) async fn step(
        &mut self,
        course: &mut Course,
        index: usize,
        step: &Step,
        lease: &mut Lease,
        results: &[Option<TextRow>],
        gated: bool,
    ) -> Option<(Answered, Option<TextRow>)> {
        let arena = self.arena;
        let at = arena.prepared.first_statement[self.chair.group] + index;
        // a group without a gate has none, and a gated one has the race's
        let gate = arena.gate.filter(|_| gated && self.group.gate != Gate::None);
        if !lease.has(at)
            && let Err(ending) = Box::pin(self.prepare(course, at, step, lease)).await
        {
            return Some((Answered::unsent(index, ending), None));
        }
        let start = arena.prepared.start;
        let starts = gate == Some(Gate::Start) && Box::pin(lease.talk().0.prepare(start, START)).await.is_ok();
        let came = Instant::now();
        let (wave, sent) = if gate.is_none() {
            (None, came)
        } else {
            let wave = arena.board.park(self.seat).await.ok()?;
            wave.gate?;
            (Some(wave), Instant::now())
        };
        if !course.in_flight {
            course.in_flight = true;
            arena.tally().meetings.begin(course.key);
        }
        let limits = self.limits(course, step.timeout, sent);
        let captures = arena.prepared.captures[self.chair.group][index];
        let pid = lease.pid;
        let (mut talk, loan) = lease.talk();
        let answer = if starts {
            let drawn = arena.draw(course.ticket);
            let values = arena.values(self.chair.group, index, course.ticket, &drawn, results);
            self.begin(course.ticket, pid, index, &values, sent);
            // the call follows the lock with no round trip between
            let both = Box::pin(async {
                let key = [Some(arena.start_key.to_string().into())];
                let (released, answer) = talk.run_both((start, &key), (at, &values)).await;
                let micros = released
                    .ok()
                    .flatten()
                    .and_then(|row| row.get(1)?.as_ref()?.parse().ok());
                if let Some(micros) = micros {
                    arena.tally().released(sent, UNIX_EPOCH + Duration::from_micros(micros));
                }
                answer
            });
            within(&mut self.alarm, loan, both, &step.reject, limits, wave.as_deref()).await
        } else {
            // what was drawn is let go before the wait, and drawn again if anybody asks: freed later, it would have left the cache
            let bound = {
                let drawn = arena.draw(course.ticket);
                let values = arena.values(self.chair.group, index, course.ticket, &drawn, results);
                self.begin(course.ticket, pid, index, &values, sent);
                talk.bind(at, &values)
            };
            let run = async { talk.execute(bound?, captures).await };
            within(&mut self.alarm, loan, run, &step.reject, limits, wave.as_deref()).await
        };
        let ended = Instant::now();
        let (ending, row) = match answer {
            Ok(row) if captures => {
                let columns = &arena.prepared.columns[self.chair.group][index];
                (Ending::of_row(columns, row.as_ref(), &step.reject), row)
            }
            Ok(_) => (Ending::accepted(), None),
            Err(ending) => (ending, None),
        };
        if ending.is_deadlock() {
            let deadlock = arena.deadlock(&ending, lease.pid, ended);
            arena.tally().deadlocks.push(deadlock);
        }
        arena.board.end(self.seat, ended);
        let opened = wave.and_then(|w| w.opened.get().copied());
        let from = opened.filter(|o| *o > sent && *o < ended).unwrap_or(sent);
        course.held += from - came;
        let took = ended - from;
        let blocked = match took < WAIT_MIN {
            true => Duration::ZERO,
            false => arena.waited(self.seat, &ending, lease.pid, from, ended),
        };
        let answered = Answered {
            step: index,
            ending,
            took,
            blocked,
        };
        Some((answered, row))
    }

    /// The step's statement, prepared on this connection.
    pub(super) async fn prepare(
        &mut self,
        course: &Course,
        at: usize,
        step: &Step,
        lease: &mut Lease,
    ) -> Result<(), Ending> {
        // this may wait for somebody's lock
        let limits = self.limits(course, step.timeout, Instant::now());
        let (mut talk, loan) = lease.talk();
        let prepare = talk.prepare(at, &step.statement.sql);
        let prepared = within(&mut self.alarm, loan, prepare, &step.reject, limits, None);
        interruptible(loan, &self.arena.stop, Duration::ZERO, prepared).await
    }

    pub(super) fn begin(&self, ticket: Ticket, pid: i32, step: usize, values: &Values<'_>, sent: Instant) {
        let origins = self.arena.prepared.origins[self.chair.group].get(step);
        let returned = origins.is_some_and(|all| all.iter().any(|o| matches!(o, Origin::Result { .. })));
        let activity = Activity {
            pid,
            step: step as u32,
            ticket,
            values: returned.then(|| Arc::new(kept(values))),
            started: sent,
            ended: None,
        };
        self.arena.board.begin(self.seat, activity);
    }
}
