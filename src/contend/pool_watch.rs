//! The pools of a round, looked at now and then; the server is asked only while one of them is dry.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::arena::Arena;
use super::board::Seat;
use crate::scenario::Plan;
use crate::watch::{Doing, Named, PoolHolder, PoolNow, PoolSeen, backends};

/// How often the pools are looked at.
const PERIOD: Duration = Duration::from_millis(20);
/// The server rests for so many times what its answer took, so that the question can't slow the race down much.
const PAUSE_PER_COST: u32 = 10;
/// But for no longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What is seen of the pools in a round.
#[derive(Debug)]
pub(super) struct PoolWatch {
    seen: Mutex<Vec<PoolSeen>>,
}

impl PoolWatch {
    pub(super) fn new(pools: usize) -> PoolWatch {
        PoolWatch {
            seen: Mutex::new(vec![PoolSeen::default(); pools]),
        }
    }

    pub(super) fn seen(self) -> Vec<PoolSeen> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until dropped; without a server that answers there is nothing more to see.
    pub(super) async fn watch(&self, arena: &Arena, client: &Client) -> Infallible {
        let mut ask_next = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            let pools = look(arena);
            let at = arena.began.elapsed();
            for (seen, now) in self.lock().iter_mut().zip(&pools) {
                seen.record(at, now);
            }
            let asked = Instant::now();
            if asked < ask_next || !pools.iter().any(PoolNow::is_dry) {
                continue;
            }
            let Ok(server) = backends(client).await else {
                return std::future::pending().await;
            };
            ask_next = Instant::now() + (asked.elapsed() * PAUSE_PER_COST).min(PAUSE_MAX);
            // what the client knows is to be as fresh as what the server said
            let pools = look(arena);
            let named = arena.board.read(|seats| named(&arena.plan, seats));
            let table = |pid| arena.locks.table_waited_for(pid);
            for (seen, now) in self.lock().iter_mut().zip(&pools) {
                if now.is_dry() {
                    seen.charge(now, &server, &named, table);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PoolSeen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pools as they are now.
fn look(arena: &Arena) -> Vec<PoolNow> {
    let size = |pool: &crate::postgres::pool::Pool| u32::try_from(pool.capacity()).unwrap_or(u32::MAX);
    let mut pools: Vec<PoolNow> = arena
        .pools
        .iter()
        .map(|pool| PoolNow {
            size: size(pool),
            ..PoolNow::default()
        })
        .collect();
    arena.board.read(|seats| {
        for seat in seats {
            let pool = &mut pools[arena.plan.groups[seat.group].pool];
            pool.in_use += (seat.holds.len() + seat.leaked.len()) as u32;
            pool.waiting += u32::from(seat.is_queued());
        }
        for seat in seats {
            let pool = arena.plan.groups[seat.group].pool;
            if pools[pool].is_dry() {
                pools[pool].holders.extend(holders(&arena.plan, seat));
            }
        }
    });
    pools
}

/// The connections that a session has.
fn holders<'a>(plan: &'a Plan, seat: &'a Seat) -> impl Iterator<Item = PoolHolder> + 'a {
    let holder = move |pid: i32, doing: Doing| PoolHolder {
        pid,
        group: plan.groups[seat.group].name.clone(),
        place: place(plan, seat),
        doing,
        runs: seat.latest().filter(|_| doing == Doing::Running).map(|a| a.pid),
    };
    let own = seat.holds.iter().map(move |pid| holder(*pid, seat.doing()));
    own.chain(seat.leaked.iter().map(move |pid| holder(*pid, Doing::Leaked)))
}

/// Which session a process works for, and where in its attempt that is.
fn named(plan: &Plan, seats: &[Seat]) -> HashMap<i32, Named> {
    let mut named = HashMap::new();
    for seat in seats {
        let group = &plan.groups[seat.group].name;
        let name = |place: String| Named {
            session: format!("{group} {}", seat.session),
            place: format!("{group} {place}"),
        };
        named.extend(seat.holds.iter().map(|pid| (*pid, name(place(plan, seat)))));
        let leaked = seat.leaked.iter();
        named.extend(leaked.map(|pid| (*pid, name("that never gave its connection back".into()))));
    }
    named
}

/// Where in its attempt a session is: "in `hold`", "before `confirm`".
fn place(plan: &Plan, seat: &Seat) -> String {
    let group = &plan.groups[seat.group];
    let step = |at: usize| match group.steps.get(at) {
        Some(step) => format!("`{}`", step.name),
        None => "the commit".to_string(),
    };
    // a transaction has a commit behind the last step
    let steps = group.steps.len() + usize::from(group.transaction.is_some());
    let last = seat.latest().map(|activity| activity.step as usize);
    match (seat.doing(), last) {
        (Doing::Running, Some(last)) => format!("in {}", step(last)),
        (Doing::AsksAgain, last) => {
            let second = group.steps.iter().position(|s| s.second_connection);
            format!("in {}", step(second.or(last).unwrap_or(0)))
        }
        (Doing::Thinking, _) => "between attempts".into(),
        (_, last) => format!("before {}", step(last.map_or(0, |last| (last + 1) % steps))),
    }
}
