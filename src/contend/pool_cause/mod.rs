//! Why a pool gave no connection: one cause, named by what those who had the connections did. Pure.
//!
//! Two kinds of causes are told from errors: a server that is full (53300), and connections that could not be made. The others
//! are told from the time during which the pool was dry, charged to what each holder did (`watch::pool`): the one with
//! the largest part is the cause. Another one is named beside it only when its part is at least [`CLOSE`] of the largest.

mod text;

use std::time::Duration;

use crate::report::PoolCause;
use crate::scenario::Plan;
use crate::watch::{Holding, PoolSeen};

/// What is not the largest part is named when it is this part of the largest.
const CLOSE: f64 = 2.0 / 3.0;
/// A pool that was dry for a smaller part of the race, without a timeout, is just well used.
const DRY_PART_MIN: f64 = 0.1;
/// And one that was dry for less than this has not been seen often enough.
const DRY_MIN: Duration = Duration::from_millis(100);

/// A pool over all rounds, in figures.
pub(super) struct Figures<'a> {
    pub(super) size: u32,
    /// Sessions that ask for two connections at once.
    pub(super) nesting: u32,
    pub(super) seen: &'a PoolSeen,
    pub(super) timeouts: u64,
    /// Of these, those that held another connection.
    pub(super) nested_timeouts: u64,
    pub(super) create_timeouts: u64,
    pub(super) server_full: u64,
    pub(super) connect_errors: u64,
    /// Connections that were lent.
    pub(super) lent: u64,
    /// Under a rate, the attempts planned for a second; those that got a connection in a second otherwise.
    pub(super) per_second: f64,
    /// Whether a gate holds sessions that draw from it.
    pub(super) is_gated: bool,
    /// Whether a rate says how many attempts there are, whatever becomes of them.
    pub(super) is_open: bool,
    pub(super) create: Duration,
    pub(super) wait: Duration,
    /// What the server said of a connection that it had no room for, or that failed.
    pub(super) said: Option<String>,
}

/// The causes, most telling first; none when nobody waited in vain or for long.
pub(super) fn causes(of: &Figures<'_>) -> Vec<PoolCause> {
    let mut causes = Vec::new();
    if of.server_full > 0 {
        causes.push(cause("server_full", None, text::server_full(of)));
    }
    let never_made = of.seen.connecting > of.seen.waited && of.timeouts > 0 && of.server_full == 0;
    if of.create_timeouts + of.connect_errors > 0 || never_made {
        causes.push(cause("connect_trouble", None, text::connect_trouble(of)));
    }
    if never_made {
        return causes;
    }
    // sessions that are held and let go together are kept waiting by the race
    let little = of.is_gated || of.seen.dry < DRY_MIN.max(of.seen.watched.mul_f64(DRY_PART_MIN));
    if of.timeouts == 0 && little {
        return causes;
    }
    for (holding, share) in leading(of.seen, of.nested_timeouts > 0) {
        let (name, text) = match holding {
            Holding::Convoy => ("convoy", text::convoy(of, share)),
            Holding::IdleInTransaction => ("idle_in_transaction", text::idle(of, share, holding)),
            Holding::HeldIdle => ("held_idle", text::idle(of, share, holding)),
            Holding::Leaked => ("leaked", text::leaked(of, share)),
            Holding::Nested => ("nested_acquire", text::nested(of)),
            Holding::Working => ("too_small", text::too_small(of)),
            Holding::AtGate => continue,
        };
        causes.push(cause(name, Some(share * 100.0), text));
    }
    causes
}

fn cause(cause: &'static str, share: Option<f64>, text: String) -> PoolCause {
    let share = share.map(|share| (share * 10.0).round() / 10.0);
    PoolCause { cause, share, text }
}

/// What most of the holders' time went to, and what came close, with its part of all.
fn leading(seen: &PoolSeen, is_stuck: bool) -> Vec<(Holding, f64)> {
    let mut all = seen.by_holding();
    // where everybody got a second connection in time, waiting for it was a part of the work
    if !is_stuck && let Some(seconds) = all.remove(&Holding::Nested) {
        *all.entry(Holding::Working).or_default() += seconds;
    }
    let sum: f64 = all.values().sum();
    let most = all.values().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return Vec::new();
    }
    let mut leading: Vec<(Holding, f64)> = all
        .into_iter()
        .filter(|(_, seconds)| *seconds >= CLOSE * most)
        .map(|(holding, seconds)| (holding, seconds / sum))
        .collect();
    leading.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    leading
}

/// Sessions that ask for two connections of a pool at once.
pub(super) fn nesting(plan: &Plan, pool: usize) -> u32 {
    let asks_twice = |g: &&crate::scenario::Group| g.pool == pool && g.steps.iter().any(|s| s.second_connection);
    plan.groups.iter().filter(asks_twice).map(|g| g.sessions).sum()
}

/// Attempts in a second, planned where all groups of a pool have a rate, and whether that is so.
pub(super) fn per_second(plan: &Plan, pool: usize, lent: u64, seconds: f64) -> (f64, bool) {
    use crate::scenario::Schedule;
    let groups = || plan.groups.iter().filter(|g| g.pool == pool);
    let is_open = groups().count() > 0 && groups().all(|g| matches!(g.schedule, Schedule::Rate { .. }));
    if !is_open {
        return (lent as f64 / seconds.max(f64::MIN_POSITIVE), false);
    }
    let planned = |g: &crate::scenario::Group| match &g.schedule {
        Schedule::Rate { ramp } => ramp.starts() as f64 / ramp.duration().as_secs_f64().max(f64::MIN_POSITIVE),
        _ => 0.0,
    };
    (groups().map(planned).sum(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(charged: &[(Holding, &str, f64)]) -> PoolSeen {
        PoolSeen {
            watched: Duration::from_secs(2),
            dry: Duration::from_secs(1),
            lent: 26.6,
            waited: 15.0,
            charged: charged.iter().map(|(h, w, s)| ((*h, w.to_string()), *s)).collect(),
            ..PoolSeen::default()
        }
    }

    fn figures(seen: &PoolSeen) -> Figures<'_> {
        Figures {
            size: 20,
            nesting: 0,
            seen,
            timeouts: 3,
            nested_timeouts: 0,
            create_timeouts: 0,
            server_full: 0,
            connect_errors: 0,
            lent: 700,
            per_second: 700.0,
            is_gated: false,
            is_open: true,
            create: Duration::from_secs(1),
            wait: Duration::from_secs(1),
            said: None,
        }
    }

    fn names(of: &Figures<'_>) -> Vec<&'static str> {
        causes(of).iter().map(|c| c.cause).collect()
    }

    #[test]
    fn the_largest_part_is_the_cause_and_what_is_close_is_named_too() {
        use Holding::{AtGate, Convoy, Working};
        let clear = seen(&[(Convoy, "guest 3", 6.0), (Working, "hold", 3.0), (AtGate, "", 90.0)]);
        assert_eq!(names(&figures(&clear)), ["convoy"]);
        let close = seen(&[(Convoy, "guest 3", 6.0), (Working, "hold", 5.0)]);
        assert_eq!(names(&figures(&close)), ["convoy", "too_small"]);
        assert_eq!(names(&figures(&seen(&[(AtGate, "", 90.0)]))), [""; 0]);
    }

    #[test]
    fn who_gets_a_second_connection_in_time_is_not_stuck() {
        let nested = seen(&[
            (Holding::Nested, "guest in `log`", 6.0),
            (Holding::Working, "hold", 1.0),
        ]);
        let mut of = figures(&nested);
        assert_eq!(names(&of), ["too_small"]);
        of.nested_timeouts = 1;
        assert_eq!(names(&of), ["nested_acquire"]);
    }

    #[test]
    fn a_pool_that_is_well_used_has_no_cause() {
        let mut little = seen(&[(Holding::Working, "hold", 1.0)]);
        little.dry = Duration::from_millis(100);
        let mut of = figures(&little);
        assert_eq!(names(&of), ["too_small"], "somebody waited in vain");
        of.timeouts = 0;
        assert_eq!(names(&of), [""; 0]);
        let mut long = little.clone();
        long.dry = Duration::from_millis(300);
        let names = names(&Figures { seen: &long, ..of });
        assert_eq!(names, ["too_small"], "it was dry for long");
    }

    #[test]
    fn time_at_a_gate_does_not_make_a_pool_dry() {
        let gated = seen(&[(Holding::Working, "hold", 1.0), (Holding::AtGate, "", 9.0)]);
        let mut of = figures(&gated);
        of.is_gated = true;
        assert_eq!(names(&of), ["too_small"], "somebody waited in vain");
        of.timeouts = 0;
        assert_eq!(names(&of), [""; 0]);
    }

    #[test]
    fn littles_law_says_how_many_are_needed() {
        let small = seen(&[(Holding::Working, "guest in `hold`", 20.0)]);
        let text = &causes(&figures(&small))[0].text;
        assert!(
            text.contains("20 connections are held for 38 ms on average; at 700 attempts a second that needs 27"),
            "{text}"
        );
        let idle = seen(&[
            (Holding::IdleInTransaction, "guest before `confirm`", 15.0),
            (Holding::Working, "guest in `hold`", 5.0),
        ]);
        let text = &causes(&figures(&idle))[0].text;
        for part in [
            "15 of 20",
            "38 ms on average, 28 ms of it idle",
            "needs 27",
            "7 of 20 would do",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn errors_name_what_dryness_does_not_show() {
        let calm = PoolSeen::default();
        let full = Figures {
            server_full: 4,
            timeouts: 0,
            ..figures(&calm)
        };
        assert_eq!(names(&full), ["server_full"]);
        let slow = Figures {
            create_timeouts: 4,
            timeouts: 0,
            ..figures(&calm)
        };
        assert_eq!(names(&slow), ["connect_trouble"]);
        let unmade = PoolSeen {
            connecting: 2.0,
            ..PoolSeen::default()
        };
        assert_eq!(names(&figures(&unmade)), ["connect_trouble"], "waited for logins");
    }
}
