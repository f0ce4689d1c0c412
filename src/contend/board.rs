//! Who is doing what, now: the sessions write it, the gate keeper and the deadlock report read it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::draw::{TextRow, Ticket};
use crate::watch::Doing;

/// Statements remembered for each session: the current one and those that just ended.
const REMEMBERED: usize = 4;

/// The board of one race.
#[derive(Debug)]
pub(crate) struct Board {
    seats: Mutex<Vec<Seat>>,
    pool_size: usize,
    /// Whether anybody goes through a gate, so that somebody waits for changes.
    gated: bool,
    changed: Notify,
}

/// What the board knows of one session.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Index of its group.
    pub(crate) group: usize,
    /// 1-based, over all groups.
    pub(crate) session: u32,
    /// Whether it goes through the gate.
    pub(crate) gated: bool,
    /// The processes behind the connections that it has: one, or a second one.
    pub(crate) holds: Vec<i32>,
    /// Connections that it had and never gives back.
    pub(crate) leaked: Vec<i32>,
    now: Now,
    /// What it runs or ran last, and what it ran before, round and round.
    recent: [Slot; REMEMBERED],
}

/// What changes with each statement. With a thousand sessions every line of memory that an attempt touches has left the cache
/// meanwhile, so this is one line, and a statement another one.
#[derive(Debug)]
#[repr(align(64))]
struct Now {
    phase: Phase,
    /// Whether it asks for a second connection while it holds the first.
    asks_again: bool,
    /// Index of the newest of the recent ones.
    newest: usize,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(Option<Activity>);

/// A statement that a session runs or has run.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    /// The server's process.
    pub(crate) pid: i32,
    /// Index of the step.
    pub(crate) step: u32,
    /// The attempt: what it drew can be drawn again.
    pub(crate) ticket: Ticket,
    /// The values of `$1`, `$2`, ..., where they can't be drawn again, because earlier steps have returned some of them.
    pub(crate) values: Option<Arc<TextRow>>,
    /// When it was sent.
    pub(crate) started: Instant,
    /// When it was answered.
    pub(crate) ended: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    /// Between attempts.
    Idle,
    /// Waiting for a connection.
    Queued,
    /// Has a connection, waits to be let go.
    Parked(oneshot::Sender<Arc<Wave>>),
    /// Has a connection and was let go, but has not sent its statement yet.
    Released,
    /// Waits for the server's answer.
    Sent,
    /// Has a connection and its answer.
    Answered,
    /// Makes no more attempts.
    Done,
}

/// Sessions that were let go together.
#[derive(Debug)]
pub(crate) struct Wave {
    /// Set when they are let go; none: the race is being stopped.
    pub(crate) gate: Option<crate::scenario::Gate>,
    /// When the gate was opened.
    pub(crate) opened: OnceLock<Instant>,
}

/// A group of sessions that wait to be let go.
#[derive(Debug)]
pub(crate) struct Cohort {
    /// Indices of their seats.
    pub(crate) seats: Vec<usize>,
    senders: Vec<oneshot::Sender<Arc<Wave>>>,
}

impl Cohort {
    /// Lets them go.
    pub(crate) fn release(self, wave: &Arc<Wave>) {
        for sender in self.senders {
            // a session that is gone needs no release
            let _ = sender.send(Arc::clone(wave));
        }
    }
}

impl Board {
    pub(crate) fn new(seats: impl IntoIterator<Item = (usize, bool)>, pool_size: usize) -> Board {
        let seats: Vec<Seat> = seats
            .into_iter()
            .zip(1..)
            .map(|((group, gated), session)| Seat {
                group,
                session,
                gated,
                holds: Vec::new(),
                leaked: Vec::new(),
                now: Now {
                    phase: Phase::Idle,
                    asks_again: false,
                    newest: 0,
                },
                recent: Default::default(),
            })
            .collect();
        Board {
            gated: seats.iter().any(|s| s.gated),
            seats: Mutex::new(seats),
            pool_size,
            changed: Notify::new(),
        }
    }

    /// The session is between attempts, or waits for a connection.
    pub(crate) fn queued(&self, seat: usize) {
        self.set(seat, Phase::Queued);
    }

    /// The session holds a connection and waits for a second one.
    pub(crate) fn queued_again(&self, seat: usize) {
        self.lock()[seat].now.asks_again = true;
    }

    /// The session got a connection.
    pub(crate) fn took(&self, seat: usize, pid: i32) {
        let seat = &mut self.lock()[seat];
        seat.holds.push(pid);
        seat.now.asks_again = false;
    }

    /// The session gave its connection back, or lost it.
    pub(crate) fn gave_back(&self, seat: usize) {
        self.lock()[seat].holds.clear();
    }

    /// The session gave its second connection back.
    pub(crate) fn gave_back_second(&self, seat: usize) {
        self.lock()[seat].holds.truncate(1);
    }

    /// The session will never give its connection back.
    pub(crate) fn leak(&self, seat: usize, pid: i32) {
        let seat = &mut self.lock()[seat];
        seat.holds.clear();
        seat.leaked.push(pid);
    }

    /// The attempt is over.
    pub(crate) fn idle(&self, seat: usize) {
        let now = &mut self.lock()[seat].now;
        now.asks_again = false;
        now.phase = Phase::Idle;
        self.notify();
    }

    /// The session makes no more attempts.
    pub(crate) fn done(&self, seat: usize) {
        self.set(seat, Phase::Done);
    }

    /// The session has a connection and goes on without a gate.
    pub(crate) fn released(&self, seat: usize) {
        self.set(seat, Phase::Released);
    }

    /// The session has a connection and waits to be let go.
    pub(crate) fn park(&self, seat: usize) -> oneshot::Receiver<Arc<Wave>> {
        let (sender, receiver) = oneshot::channel();
        self.set(seat, Phase::Parked(sender));
        receiver
    }

    /// The session sends a statement.
    pub(crate) fn begin(&self, seat: usize, activity: Activity) {
        let seat = &mut self.lock()[seat];
        seat.now.newest = (seat.now.newest + 1) % REMEMBERED;
        seat.recent[seat.now.newest] = Slot(Some(activity));
        seat.now.phase = Phase::Sent;
    }

    /// The statement was answered.
    pub(crate) fn end(&self, seat: usize, at: Instant) {
        let seat = &mut self.lock()[seat];
        if let Slot(Some(activity)) = &mut seat.recent[seat.now.newest] {
            activity.ended = Some(at);
        }
        seat.now.phase = Phase::Answered;
        self.notify();
    }

    /// Of those seats: how many have yet to send, and the processes of those that wait for an answer.
    pub(crate) fn arrival(&self, seats: &[usize]) -> (usize, Vec<i32>) {
        let all = self.lock();
        let cohort = || seats.iter().map(|i| &all[*i]);
        let coming = cohort().filter(|s| matches!(s.now.phase, Phase::Released)).count();
        (coming, cohort().filter_map(Seat::unanswered).collect())
    }

    /// All processes that wait for an answer.
    pub(crate) fn busy(&self) -> Vec<i32> {
        self.lock().iter().filter_map(Seat::unanswered).collect()
    }

    /// Whether no gated session makes any more attempts.
    pub(crate) fn all_done(&self) -> bool {
        self.lock()
            .iter()
            .all(|s| !s.gated || matches!(s.now.phase, Phase::Done))
    }

    /// Reads the seats.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[Seat]) -> T) -> T {
        read(&self.lock())
    }

    /// Waits until the gated sessions that can come have come, and takes them; none when all are done.
    ///
    /// A session that waits for a connection can't come while the others hold all of them.
    pub(crate) async fn cohort(&self) -> Option<Cohort> {
        loop {
            let changed = self.changed.notified();
            {
                let mut seats = self.lock();
                let count = |test: fn(&Phase) -> bool| seats.iter().filter(|s| s.gated && test(&s.now.phase)).count();
                let without_connection = |p: &Phase| matches!(p, Phase::Idle | Phase::Queued | Phase::Done);
                let holders = seats.iter().filter(|s| !without_connection(&s.now.phase)).count();
                let parked = count(|p| matches!(p, Phase::Parked(_)));
                let queued = count(|p| matches!(p, Phase::Queued));
                let coming = count(|p| !matches!(p, Phase::Parked(_) | Phase::Queued | Phase::Done));
                if parked == 0 && coming == 0 && queued == 0 {
                    return None;
                }
                if parked > 0 && coming == 0 && (queued == 0 || holders >= self.pool_size) {
                    return Some(take_parked(&mut seats));
                }
            }
            changed.await;
        }
    }

    /// Takes the parked sessions as they are.
    pub(crate) fn take_parked(&self) -> Cohort {
        take_parked(&mut self.lock())
    }

    /// Completes when something has changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, seat: usize, phase: Phase) {
        self.lock()[seat].now.phase = phase;
        self.notify();
    }

    fn notify(&self) {
        if self.gated {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What it runs, or ran last.
    pub(crate) fn latest(&self) -> Option<&Activity> {
        self.recent[self.now.newest].0.as_ref()
    }

    /// What it ran last, newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &Activity> {
        let at = |age: usize| (self.now.newest + REMEMBERED - age) % REMEMBERED;
        (0..REMEMBERED).filter_map(move |age| self.recent[at(age)].0.as_ref())
    }

    /// Whether it waits for a connection.
    pub(crate) fn is_queued(&self) -> bool {
        self.now.asks_again || (matches!(self.now.phase, Phase::Queued) && self.holds.is_empty())
    }

    /// What it does while it has a connection.
    pub(crate) fn doing(&self) -> Doing {
        match self.now.phase {
            _ if self.now.asks_again => Doing::AsksAgain,
            Phase::Parked(_) => Doing::AtGate,
            Phase::Sent => Doing::Running,
            Phase::Idle | Phase::Done => Doing::Thinking,
            Phase::Queued | Phase::Released | Phase::Answered => Doing::Between,
        }
    }

    fn unanswered(&self) -> Option<i32> {
        match self.now.phase {
            Phase::Sent => self.latest().map(|a| a.pid),
            _ => None,
        }
    }
}

fn take_parked(seats: &mut [Seat]) -> Cohort {
    let mut cohort = Cohort {
        seats: Vec::new(),
        senders: Vec::new(),
    };
    for (i, seat) in seats.iter_mut().enumerate() {
        if !matches!(seat.now.phase, Phase::Parked(_)) {
            continue;
        }
        if let Phase::Parked(sender) = std::mem::replace(&mut seat.now.phase, Phase::Released) {
            cohort.seats.push(i);
            cohort.senders.push(sender);
        }
    }
    cohort
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    async fn ready(board: &Board) -> Option<usize> {
        let cohort = timeout(Duration::from_millis(20), board.cohort()).await.ok()?;
        Some(cohort.map_or(0, |c| c.seats.len()))
    }

    #[tokio::test]
    async fn the_cohort_waits_for_all_that_can_come() {
        let board = Board::new([(0, true), (0, true), (0, true), (1, false)], 4);
        board.released(3);
        assert_eq!(ready(&board).await, None, "all are idle");
        let _a = board.park(0);
        board.queued(1);
        board.done(2);
        assert_eq!(ready(&board).await, None, "a connection is free for the second");
        let _b = board.park(1);
        assert_eq!(ready(&board).await, Some(2));
        board.done(0);
        board.done(1);
        assert_eq!(ready(&board).await, Some(0), "none are left, whatever the ungated do");
    }

    #[tokio::test]
    async fn a_small_pool_makes_small_cohorts() {
        let board = Board::new([(0, true), (0, true), (0, true)], 2);
        let (_a, _b) = (board.park(0), board.park(1));
        board.queued(2);
        assert_eq!(ready(&board).await, Some(2));
        assert_eq!(ready(&board).await, None, "they run");
        board.done(0);
        let _c = board.park(2);
        board.done(1);
        assert_eq!(ready(&board).await, Some(1));
    }
}
