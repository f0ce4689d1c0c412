//! All that the sessions of a round share.

use std::collections::HashSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::board::{Activity, Board};
use super::draw::{Drawn, TextRow, Ticket, Values, draw, kept, values};
use super::ending::Ending;
use super::prepare::Prepared;
use super::tally::Tally;
use crate::postgres::pool::{Lease, Pool};
use crate::scenario::{Gate, Plan};
use crate::stop::Stop;
use crate::watch::{Deadlock, LockWatch, Stretch, Timeline};

/// All that the sessions of a round share.
pub(crate) struct Arena {
    pub(crate) plan: Arc<Plan>,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) board: Board,
    pub(crate) keys: Vec<TextRow>,
    pub(crate) round: u32,
    /// When the round began: schedules count from here.
    pub(crate) began: Instant,
    pub(crate) start_key: i64,
    /// The gate that is kept; none in the control.
    pub(crate) gate: Option<Gate>,
    /// The round's own: asked when the run is stopped, when a rule aborts the run, and when the server is gone.
    pub(crate) stop: Stop,
    pub(crate) locks: Arc<LockWatch>,
    pub(crate) tally: Mutex<Tally>,
    /// What those did who waited for locks, and those they waited for.
    pub(crate) timeline: Mutex<Timeline>,
    /// By group: attempts drawn from a shared schedule.
    pub(crate) drawn: Vec<AtomicU32>,
    /// By group: the starts of a rate.
    pub(crate) arrivals: Vec<Arrivals>,
    /// Connections that nobody gives back before the round is over.
    pub(crate) leaked: Mutex<Vec<Lease>>,
}

impl Arena {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; whether the time has passed, and nobody asked to stop.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        if time.is_zero() {
            return !self.stop.is_requested();
        }
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stop.requested() => false,
        }
    }

    /// Remembers what these processes do, and what they did just before.
    pub(crate) fn meets(&self, pids: &HashSet<i32>) {
        let mut timeline = self.timeline();
        self.board.read(|seats| {
            for seat in seats {
                for activity in seat.recent().filter(|a| pids.contains(&a.pid)) {
                    timeline.add(activity.pid, self.stretch(seat.group, seat.session, activity));
                }
            }
        });
    }

    fn stretch(&self, group: usize, session: u32, activity: &Activity) -> Stretch {
        let group = &self.plan.groups[group];
        let step = group.steps.get(activity.step as usize);
        Stretch {
            session: format!("{} {session}", group.name),
            step: step.map_or_else(|| "commit".to_string(), |s| s.name.clone()),
            from: activity.started,
            to: activity.ended.unwrap_or_else(Instant::now),
            context: None,
        }
    }

    /// A step that took long has ended: how long of it its process was seen waiting for locks. What it says of itself
    /// is remembered.
    pub(crate) fn waited(&self, seat: usize, ending: &Ending, pid: i32, from: Instant, ended: Instant) -> Duration {
        if ending.context.is_some() {
            let stretch = self.board.read(|seats| {
                let seat = &seats[seat];
                let activity = seat.latest().filter(|a| a.pid == pid)?;
                Some(self.stretch(seat.group, seat.session, activity))
            });
            if let Some(stretch) = stretch {
                let context = ending.context.clone();
                self.timeline().add(pid, Stretch { context, ..stretch });
            }
        }
        self.locks.blocked(pid, from, ended)
    }

    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection that its session never gives back.
    pub(crate) fn leak(&self, seat: usize, lease: Lease) {
        self.board.leak(seat, lease.pid);
        self.leaked.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
    }

    /// What an attempt draws, each time the same.
    pub(crate) fn draw(&self, ticket: Ticket) -> Drawn {
        let pick = self.plan.pick();
        draw(self.plan.seed, ticket, self.keys.len(), pick, &self.plan.params)
    }

    /// The values of a step's parameters.
    pub(crate) fn values<'a>(
        &'a self,
        group: usize,
        step: usize,
        ticket: Ticket,
        drawn: &'a Drawn,
        results: &'a [Option<TextRow>],
    ) -> Values<'a> {
        let origins = &self.prepared.origins[group][step];
        values(ticket, drawn, &self.keys, results, origins)
    }

    /// The values of an activity's `$1`, `$2`, ...
    fn values_then(&self, group: usize, activity: &Activity) -> TextRow {
        match &activity.values {
            Some(values) => values.to_vec(),
            None => {
                let drawn = self.draw(activity.ticket);
                kept(&self.values(group, activity.step as usize, activity.ticket, &drawn, &[]))
            }
        }
    }

    /// The cycle as the victim's error and the board show it, now.
    pub(crate) fn deadlock(&self, ending: &Ending, victim: i32, at: Instant) -> Deadlock {
        let mut deadlock = Deadlock::read(
            ending.detail.as_deref().unwrap_or_default(),
            ending.context.as_deref(),
            victim,
        );
        deadlock.round = self.round;
        deadlock.met = Some(at);
        for member in &mut deadlock.cycle {
            self.board.read(|seats| {
                // the statement that waited has been running for a while; one that was just sent is its successor
                let waited =
                    |a: &&Activity| a.pid == member.pid && at.duration_since(a.started) >= Duration::from_millis(1);
                let found = seats.iter().find_map(|s| Some((s, s.recent().find(waited)?)));
                let Some((seat, activity)) = found else { return };
                let group = &self.plan.groups[seat.group];
                member.session = Some(format!("{} {}", group.name, seat.session));
                let Some(step) = group.steps.get(activity.step as usize) else {
                    member.step = Some("commit".into());
                    return;
                };
                member.step = Some(step.name.clone());
                member.statement = Some(step.statement.text.clone());
                member.parameters = step
                    .statement
                    .names
                    .iter()
                    .cloned()
                    .zip(self.values_then(seat.group, activity))
                    .collect();
            });
        }
        deadlock
    }
}
