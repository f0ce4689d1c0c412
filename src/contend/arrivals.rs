//! Starts at a rate: each is given to a session that is free when it is due, or dropped. None is made up for later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::arena::Arena;
use crate::scenario::Ramp;

/// How long the clock may take to notice that nobody listens any more.
const CLOCK_NAP_MAX: Duration = Duration::from_millis(50);

/// The free sessions of a group.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// The one that has been free for longest comes first.
    waiting: VecDeque<oneshot::Sender<Instant>>,
    over: bool,
}

impl Arrivals {
    /// Waits for a start, and returns when it was due; none when there are no more.
    pub(crate) async fn next(&self) -> Option<Instant> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.over {
                return None;
            }
            free.waiting.push_back(sender);
        }
        receiver.await.ok()
    }

    /// Hands out the starts of a group until its schedule is over or the round is stopped.
    pub(crate) async fn keep(&self, arena: &Arena, group: usize, ramp: &Ramp, began: Instant) {
        let mut due = clock(ramp.clone(), began);
        loop {
            let start = tokio::select! {
                start = due.recv() => start,
                () = arena.stop.requested() => None,
            };
            let Some(start) = start else { break };
            let given = self.give(start);
            let mut tally = arena.tally();
            tally.groups[group].lag.record(start.elapsed());
            tally.groups[group].dropped += u64::from(!given);
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.over = true;
        free.waiting.clear();
    }

    /// Whether a session was free to take it.
    fn give(&self, start: Instant) -> bool {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // a session that is gone took none
        while let Some(session) = free.waiting.pop_front() {
            if session.send(start).is_ok() {
                return true;
            }
        }
        false
    }
}

/// Sends each start when it is due. A thread of its own: tokio's timers have steps of a millisecond, and a thread sleeps to
/// some 60 µs.
fn clock(ramp: Ramp, began: Instant) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for n in 0.. {
            let Some(at) = ramp.start_time(n) else { return };
            let due = began + at;
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::sleep(left.min(CLOCK_NAP_MAX));
                if sender.is_closed() {
                    return;
                }
            }
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}
