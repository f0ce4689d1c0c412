//! How a round goes, several times a second.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::{Event, Pulse};
use crate::scenario::{Group, Schedule};

/// How often a round tells how it goes.
const PULSE_PERIOD: Duration = Duration::from_millis(200);

/// Tells how the round goes, for ever.
pub(super) async fn pulses(arena: &Arena, on_event: &mut (dyn FnMut(Event) + Send)) -> Infallible {
    let groups = &arena.plan.groups;
    let planned = |g: &Group| match &g.schedule {
        Schedule::PerSession { .. } | Schedule::Shared { .. } => None,
        Schedule::Constant { duration } => Some(g.start + *duration),
        Schedule::Ramping { ramp, .. } | Schedule::Rate { ramp } => Some(g.start + ramp.duration()),
    };
    let attempts: Option<Vec<u32>> = groups.iter().map(|g| g.schedule.attempts(g.sessions)).collect();
    let mut last = arena.began;
    loop {
        tokio::time::sleep(PULSE_PERIOD).await;
        let now = Instant::now();
        let (in_use, waiting) = arena.board.read(|seats| {
            let held: usize = seats.iter().map(|s| s.holds.len() + s.leaked.len()).sum();
            (held as u64, seats.iter().filter(|s| s.is_queued()).count() as u64)
        });
        let pulse = {
            let mut tally = arena.tally();
            Pulse {
                round: arena.round,
                elapsed: arena.began.elapsed(),
                planned: groups.iter().filter_map(planned).max(),
                outcomes: tally.outcomes,
                attempts_planned: attempts.as_ref().map(|a| a.iter().map(|n| u64::from(*n)).sum()),
                latency: std::mem::take(&mut tally.window),
                window: now - last,
                waiting: arena.locks.waiting_now(),
                deadlocks: tally.deadlocks.len() as u64,
                dropped: tally.groups.iter().map(|g| g.dropped).sum(),
                pool_in_use: in_use,
                pool_size: arena.pools.iter().map(|p| p.capacity() as u64).sum(),
                pool_waiting: waiting,
            }
        };
        last = now;
        on_event(Event::Pulse(Box::new(pulse)));
    }
}
