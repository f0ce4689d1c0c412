//! The serial control: the attempts of a round, one after another.

use super::arena::Arena;
use super::contest::Chair;
use super::session::Session;
use crate::scenario::Schedule;

/// Attempts of the serial control at the most.
const CONTROL_MAX: usize = 200;

/// The attempts of a round, or the first of them, in turn. Where time decides how many there are, one of each session.
pub(super) async fn one_after_another(arena: &Arena, seats: &[Chair]) {
    let mut made = 0;
    let mut drawn = vec![0; arena.plan.groups.len()];
    let mut sessions: Vec<Session<'_>> = seats
        .iter()
        .enumerate()
        .map(|(i, seat)| Session::new(arena, i, *seat))
        .collect();
    for iteration in 1.. {
        let before = made;
        for session in &mut sessions {
            if made >= CONTROL_MAX || arena.stop.is_requested() {
                return;
            }
            let group = session.chair.group;
            let more = match &session.group.schedule {
                Schedule::PerSession { iterations, .. } => iteration <= *iterations,
                Schedule::Shared { iterations, .. } => drawn[group] < *iterations,
                Schedule::Constant { .. } | Schedule::Ramping { .. } | Schedule::Rate { .. } => iteration == 1,
            };
            if !more {
                continue;
            }
            drawn[group] += 1;
            made += 1;
            session.next(None, None).await;
            session.give_back();
            arena.board.idle(session.seat);
        }
        if made == before {
            break;
        }
    }
}
