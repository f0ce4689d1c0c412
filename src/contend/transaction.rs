//! An attempt's transaction, where its group has one.

use std::time::{Duration, Instant};

use super::attempt::{Answered, Course, Tried};
use super::call::{Limits, within};
use super::ending::Ending;
use super::prepare::COMMIT;
use super::session::Session;
use crate::outcome::Outcome;
use crate::postgres::pool::Lease;
use crate::scenario::Refusal;

/// How long BEGIN, COMMIT and ROLLBACK may take, beside the limits of an attempt.
const CONTROL_MAX: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// The steps, within a transaction where the group has one.
    pub(super) async fn transaction(
        &mut self,
        course: &mut Course,
        first: bool,
        lease: &mut Lease,
        answered: &mut Vec<Answered>,
    ) -> Tried {
        if let Err(ending) = self.settings(lease).await {
            return self.not_begun(ending);
        }
        let Some(begin) = &self.arena.prepared.begin[self.chair.group] else {
            return self.steps(course, first, lease, answered).await;
        };
        let (number, sql) = begin;
        if let Err(ending) = self.control(course, lease, *number, sql, &[]).await {
            return self.not_begun(ending);
        }
        let tried = self.steps(course, first, lease, answered).await;
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
    pub(super) async fn settings(&self, lease: &mut Lease) -> Result<(), Ending> {
        let group = self.chair.group;
        let Some(sql) = &self.arena.prepared.settings[group] else {
            return Ok(());
        };
        let set = lease.talk().0.settings(group, sql).await;
        set.map_err(|error| Ending::of(&error, &[]))
    }

    /// It came to no step.
    pub(super) fn not_begun(&self, ending: Ending) -> Tried {
        let begin = self.group.steps.len() + 1;
        self.arena.tally().refused(Some((self.chair.group, begin)), &ending);
        Tried::Ended(ending)
    }

    /// Begins or commits a transaction.
    pub(super) async fn control(
        &mut self,
        course: &Course,
        lease: &mut Lease,
        number: usize,
        sql: &str,
        expected: &[Refusal],
    ) -> Result<(), Ending> {
        let limits = self.limits(course, CONTROL_MAX, Instant::now());
        let is_new = !lease.has(number);
        let (mut talk, loan) = lease.talk();
        let run = async {
            if is_new {
                Box::pin(talk.prepare(number, sql)).await?;
            }
            talk.run(number, &[], false).await
        };
        within(&mut self.alarm, loan, run, expected, limits, None).await?;
        Ok(())
    }

    /// Ends a transaction. Where that fails the connection is lost, which is noticed before it is used again.
    pub(super) async fn rollback(&mut self, lease: &mut Lease) {
        let limits = Limits {
            from: Instant::now(),
            step: CONTROL_MAX,
            until: None,
        };
        let (mut talk, loan) = lease.talk();
        let rollback = talk.simple("ROLLBACK");
        let _ = within(&mut self.alarm, loan, rollback, &[], limits, None).await;
    }

    pub(super) async fn commit(&mut self, course: &Course, lease: &mut Lease) -> Tried {
        let step = self.group.steps.len();
        let sent = Instant::now();
        self.begin(course.ticket, lease.pid, step, &Vec::new(), sent);
        let expected = &self.arena.prepared.commit_refusals[self.chair.group];
        let answer = self
            .control(course, lease, self.arena.prepared.commit, COMMIT, expected)
            .await;
        self.arena.board.end(self.seat, Instant::now());
        let ending = match answer {
            Ok(()) if !lease.was_rolled_back() => return Tried::Ended(Ending::accepted()),
            Ok(()) => Ending::local(Outcome::Error, "the server answered COMMIT with ROLLBACK"),
            Err(ending) => ending,
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
}
