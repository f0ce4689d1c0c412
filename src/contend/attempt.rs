//! One attempt: a connection, the steps, the commit; and again, where the scenario retries.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future;
use rand::RngExt;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::board::Activity;
use super::call::{Limits, call, within};
use super::draw::{Drawn, TextRow, draw, values};
use super::ending::Ending;
use super::prepare::COMMIT;
use super::session::{Pass, Session};
use super::tally::{Entry, PoolTally};
use crate::outcome::Outcome;
use crate::postgres::pool::{AcquireError, Lease};
use crate::postgres::{interruptible, read_text};
use crate::scenario::{Gate, Pick, Refusal, Step};

/// Returns when the lock is had: the release, and the moment as the server sees it.
const START: &str = "select pg_catalog.pg_advisory_xact_lock_shared($1), pg_catalog.clock_timestamp()";

/// How long BEGIN, COMMIT and ROLLBACK may take, beside the limits of an attempt.
const CONTROL_MAX: Duration = Duration::from_secs(30);

/// Shorter waits are not looked for: the samples hardly see them.
const WAIT_MIN: Duration = Duration::from_millis(2);

/// Where there is no server, no session asks for a connection more often than this.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What an attempt has come to, over its tries.
struct Course {
    began: Instant,
    /// Time at gates, which is not its own.
    held: Duration,
    until: Option<Instant>,
    in_flight: bool,
    key: Option<usize>,
}

/// How a try ended.
enum Tried {
    Ended(Ending),
    /// Cancelled because the schedule was over or the run stopped, or never begun for that reason.
    Interrupted,
}

/// A step that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    step: usize,
    ending: Ending,
    took: Duration,
    /// Of that, seen waiting for locks.
    blocked: Duration,
}

impl Answered {
    /// A step that ended before it was sent.
    fn unsent(step: usize, ending: Ending) -> Answered {
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
        let pick = plan.keys.as_ref().map_or(Pick::Hot, |k| k.pick);
        let drawn = draw(plan.seed, pass.ticket, arena.keys.len(), pick, &plan.params);
        let began = Instant::now();
        let mut course = Course {
            began,
            held: Duration::ZERO,
            until: pass.until,
            in_flight: false,
            key: drawn.key,
        };
        let mut tries = 0;
        let mut try_began = began;
        let tried = loop {
            tries += 1;
            let tried = self.attempt_once(pass, &drawn, &mut course, tries == 1).await;
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
        let took = pass.due.unwrap_or(began).elapsed().saturating_sub(course.held);
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
            key: drawn.key,
            outcome: ending.outcome(),
        };
        tally.attempt(entry, self.chair.number, tries, took, self.group.settle.is_some());
        drop(tally);
        if self.group.leak.contains(&entry.outcome)
            && arena.round > 0
            && let Some(lease) = self.lease.take()
        {
            arena.leak(self.seat, lease);
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

    async fn attempt_once(&mut self, pass: Pass, drawn: &Drawn, course: &mut Course, first: bool) -> Tried {
        let lease = match self.connection(course).await {
            Some(Ok(lease)) => lease,
            Some(Err(error)) => return Box::pin(self.refused(error)).await,
            None => return Tried::Interrupted,
        };
        if self.is_stopped() {
            self.lease = Some(lease);
            return Tried::Interrupted;
        }
        let mut answered = std::mem::take(&mut self.answered);
        let tried = self
            .transaction(pass, drawn, course, first, &lease, &mut answered)
            .await;
        let lost = matches!(&tried, Tried::Ended(ending) if ending.outcome() == Outcome::InDoubt) || lease.is_closed();
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

    /// The connection it has kept, or one from the pool; none when the schedule is over before there is one, or the
    /// run stopped.
    async fn connection(&mut self, course: &Course) -> Option<Result<Lease, AcquireError>> {
        if let Some(lease) = self.lease.take() {
            if !lease.is_closed() {
                return Some(Ok(lease));
            }
            self.arena.board.gave_back(self.seat);
        }
        self.arena.board.queued(self.seat);
        let answer = Box::pin(self.acquire(course, false)).await?;
        if let Ok(lease) = &answer {
            self.arena.board.took(self.seat, lease.pid);
        }
        Some(answer)
    }

    async fn acquire(&self, course: &Course, nested: bool) -> Option<Result<Lease, AcquireError>> {
        let asked = Instant::now();
        let over = async {
            match course.until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = self.arena.pools[self.group.pool].acquire() => Some(answer),
            () = over => None,
            () = self.arena.stop.requested() => None,
        };
        let mut tally = self.arena.tally();
        let pool = &mut tally.groups[self.chair.group].pool;
        pool.wait.record(asked.elapsed());
        if let Some(Err(error)) = &answer {
            *slot(pool, error, nested) += 1;
        }
        answer
    }

    /// It got no connection.
    async fn refused(&mut self, error: AcquireError) -> Tried {
        if !matches!(error, AcquireError::Timeout(_)) && !self.arena.pause(CONNECT_PAUSE).await {
            // a server that is gone refuses nobody
            return Tried::Interrupted;
        }
        let ending = Ending::refused(&error);
        self.arena.tally().refused(None, &ending);
        Tried::Ended(ending)
    }

    /// The steps, within a transaction where the group has one.
    async fn transaction(
        &mut self,
        pass: Pass,
        drawn: &Drawn,
        course: &mut Course,
        first: bool,
        lease: &Lease,
        answered: &mut Vec<Answered>,
    ) -> Tried {
        if let Err(ending) = self.settings(lease).await {
            return self.not_begun(ending);
        }
        let Some(begin) = &self.arena.prepared.begin[self.chair.group] else {
            return self.steps(pass, drawn, course, first, lease, answered).await;
        };
        let (number, sql) = begin;
        if let Err(ending) = self.control(course, lease, *number, sql, &[]).await {
            return self.not_begun(ending);
        }
        let tried = self.steps(pass, drawn, course, first, lease, answered).await;
        match &tried {
            Tried::Ended(ending) if ending.outcome() == Outcome::Accepted => self.commit(course, lease).await,
            Tried::Ended(ending) if ending.outcome() == Outcome::InDoubt => tried,
            _ => {
                Box::pin(self.rollback(lease)).await;
                tried
            }
        }
    }

    /// Gives a connection the settings of the group.
    async fn settings(&self, lease: &Lease) -> Result<(), Ending> {
        let group = self.chair.group;
        let Some(sql) = &self.arena.prepared.settings[group] else {
            return Ok(());
        };
        let set = lease.settings(group, sql).await;
        set.map_err(|error| Ending::of(&error, &[]))
    }

    /// It came to no step.
    fn not_begun(&self, ending: Ending) -> Tried {
        let begin = self.group.steps.len() + 1;
        self.arena.tally().refused(Some((self.chair.group, begin)), &ending);
        Tried::Ended(ending)
    }

    /// Begins or commits a transaction.
    async fn control(
        &mut self,
        course: &Course,
        lease: &Lease,
        number: usize,
        sql: &str,
        expected: &[Refusal],
    ) -> Result<(), Ending> {
        let limits = self.limits(course, CONTROL_MAX, Instant::now());
        let run = async {
            let statement = match lease.prepared(number) {
                Some(statement) => statement,
                None => Box::pin(lease.prepare_as(number, sql)).await?,
            };
            lease.execute(&statement, &[]).await
        };
        within(&mut self.alarm, lease, run, expected, limits, None).await?;
        Ok(())
    }

    /// Ends a transaction. Where that fails the connection is lost, which is noticed before it is used again.
    async fn rollback(&mut self, lease: &Lease) {
        let limits = Limits {
            from: Instant::now(),
            step: CONTROL_MAX,
            until: None,
        };
        let rollback = lease.batch_execute("ROLLBACK");
        let _ = within(&mut self.alarm, lease, rollback, &[], limits, None).await;
    }

    async fn commit(&mut self, course: &Course, lease: &Lease) -> Tried {
        let step = self.group.steps.len();
        let sent = Instant::now();
        self.begin(lease, step, Arc::default(), sent);
        let expected = &self.arena.prepared.commit_refusals[self.chair.group];
        let answer = self
            .control(course, lease, self.arena.prepared.commit, COMMIT, expected)
            .await;
        self.arena.board.end(self.seat, Instant::now());
        let Err(ending) = answer else {
            return Tried::Ended(Ending::accepted());
        };
        if ending.outcome() != Outcome::InDoubt {
            // what fails before the COMMIT itself leaves the transaction open
            Box::pin(self.rollback(lease)).await;
        }
        if self.is_interruption(&ending, course) {
            return Tried::Interrupted;
        }
        self.arena.tally().refused(Some((self.chair.group, step)), &ending);
        Tried::Ended(ending)
    }

    async fn steps(
        &mut self,
        pass: Pass,
        drawn: &Drawn,
        course: &mut Course,
        first: bool,
        lease: &Lease,
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
            let values = match values(pass.ticket, drawn, &arena.keys, &results, origins) {
                Ok(values) => values,
                Err(from) => {
                    let earlier = &self.group.steps[from].name;
                    let message = format!("`{}` needs a result of `{earlier}`, which returned no row", step.name);
                    let ending = Ending::local(Outcome::Error, message);
                    answered.push(Answered::unsent(i, ending.clone()));
                    return Tried::Ended(ending);
                }
            };
            // in a transaction only the first step can be held: a later one may hold what the gate wants
            let gated = first && (i == 0 || self.group.transaction.is_none());
            let run = match step.second_connection {
                true => match Box::pin(self.step_on_second(course, i, step, values, gated)).await {
                    Ok(run) => run,
                    Err(error) => return Box::pin(self.refused(error)).await,
                },
                false => self.step(course, i, step, lease, values, gated).await,
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
    async fn step_on_second(
        &mut self,
        course: &mut Course,
        index: usize,
        step: &Step,
        values: TextRow,
        gated: bool,
    ) -> Result<Option<(Answered, Option<TextRow>)>, AcquireError> {
        self.arena.board.queued_again(self.seat);
        let Some(second) = self.acquire(course, true).await else {
            return Ok(None);
        };
        let second = second?;
        self.arena.board.took(self.seat, second.pid);
        let run = match self.settings(&second).await {
            Ok(()) => self.step(course, index, step, &second, values, gated).await,
            Err(ending) => Some((Answered::unsent(index, ending), None)),
        };
        drop(second);
        self.arena.board.gave_back_second(self.seat);
        Ok(run)
    }

    /// Waits for the gate and runs a step; none when the round is being stopped.
    async fn step(
        &mut self,
        course: &mut Course,
        index: usize,
        step: &Step,
        lease: &Lease,
        values: TextRow,
        gated: bool,
    ) -> Option<(Answered, Option<TextRow>)> {
        let arena = self.arena;
        let at = arena.prepared.first_statement[self.chair.group] + index;
        // a group without a gate has none, and a gated one has the race's
        let gate = arena.gate.filter(|_| gated && self.group.gate != Gate::None);
        let prepared = match lease.prepared(at) {
            Some(statement) => Ok(statement),
            None => Box::pin(self.prepare(course, at, step, lease)).await,
        };
        let statement = match prepared {
            Ok(statement) => statement,
            Err(ending) => return Some((Answered::unsent(index, ending), None)),
        };
        let start = match gate {
            Some(Gate::Start) => Box::pin(lease.prepare_cached(START)).await.ok(),
            _ => None,
        };
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
        let values = Arc::new(values);
        self.begin(lease, index, Arc::clone(&values), sent);
        let limits = self.limits(course, step.timeout, sent);
        let call = call(
            &mut self.alarm,
            lease,
            &statement,
            &values,
            &step.reject,
            limits,
            wave.as_deref(),
        );
        let answer = match start {
            None => call.await,
            Some(start) => {
                let key: &(dyn ToSql + Sync) = &arena.start_key;
                let released = async {
                    let row = lease.query_one(&start, &[key]).await.ok()?;
                    row.try_get::<_, SystemTime>(1).ok()
                };
                // join polls the first one first, so the call follows the lock in the same pipeline
                let (released, answer) = Box::pin(future::join(released, call)).await;
                if let Some(at) = released {
                    arena.tally().released(sent, at);
                }
                answer
            }
        };
        let ended = Instant::now();
        let (ending, row) = match answer {
            Ok(row) if arena.prepared.captures[self.chair.group][index] => {
                let row: Option<TextRow> = row.map(|row| (0..row.len()).map(|i| read_text(&row, i)).collect());
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
    async fn prepare(&mut self, course: &Course, at: usize, step: &Step, lease: &Lease) -> Result<Statement, Ending> {
        // this may wait for somebody's lock
        let limits = self.limits(course, step.timeout, Instant::now());
        let prepare = lease.prepare_as(at, &step.statement.sql);
        let prepared = within(&mut self.alarm, lease, prepare, &step.reject, limits, None);
        interruptible(lease, &self.arena.stop, Duration::ZERO, prepared).await
    }

    fn begin(&self, lease: &Lease, step: usize, values: Arc<TextRow>, sent: Instant) {
        let activity = Activity {
            pid: lease.pid,
            step,
            values,
            started: sent,
            ended: None,
        };
        self.arena.board.begin(self.seat, activity);
    }

    fn limits(&self, course: &Course, step: Duration, from: Instant) -> Limits {
        let own = self.group.timeout.map(|timeout| course.began + course.held + timeout);
        Limits {
            from,
            step,
            until: [own, course.until].into_iter().flatten().min(),
        }
    }

    /// Whether a statement was cancelled because the schedule was over, or the run stopped.
    fn is_interruption(&self, ending: &Ending, course: &Course) -> bool {
        let over = || course.until.is_some_and(|until| Instant::now() >= until);
        ending.is_cancel() && (self.is_stopped() || over())
    }
}

/// The count that a failure to get a connection goes to.
fn slot<'a>(pool: &'a mut PoolTally, error: &AcquireError, nested: bool) -> &'a mut u64 {
    match error {
        AcquireError::Timeout(_) if nested => &mut pool.nested_timeouts,
        AcquireError::Timeout(_) => &mut pool.wait_timeouts,
        AcquireError::Slow(_) => &mut pool.create_timeouts,
        AcquireError::Full(_) => &mut pool.server_full,
        AcquireError::Connect(_) => &mut pool.connect_errors,
    }
}
