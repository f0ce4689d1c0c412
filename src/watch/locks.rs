//! Lock waits, sampled from a connection of its own.
//!
//! One query reads `pg_locks` once and pairs every waiter with what is held on the same object. Behind a hot row the
//! followers of the first waiter name one another, not the holder, so the root is found by walking the tree.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_postgres::Statement;

use crate::postgres::Connection;

/// Samples in which a deadlock's members can still be found after one of them was ended.
const REMEMBERED: usize = 64;

/// How often samples are taken, where `deadlock_timeout` doesn't ask for more.
const PERIOD: Duration = Duration::from_millis(20);
/// After a sample the sampler rests for so many times what the sample took, so that it can't slow the race down much; but
/// never for longer than half of `deadlock_timeout`.
const PAUSE_PER_COST: u32 = 10;

/// `what` names the locked object: one text, so that waiters and holders meet in a hash join and not in a nested loop.
const SAMPLE: &str = "\
with l as materialized (
  select *, concat_ws('/', locktype, relation, page, tuple, virtualxid, transactionid, classid, objid, objsubid) as what
  from pg_catalog.pg_locks
  where locktype in ('relation', 'tuple', 'transactionid', 'advisory', 'object', 'virtualxid')
    and (database is null or database in (0, (select oid from pg_catalog.pg_database where datname = current_database())))
), w as materialized (
  select * from l where not granted
)
select w.pid, h.pid as holder, w.mode, h.mode as holder_mode,
       coalesce(w.relation, t.relation)::regclass::text as relation,
       '(' || coalesce(w.page, t.page) || ',' || coalesce(w.tuple, t.tuple) || ')' as row,
       AGE as micros
from w
left join l h on h.what = w.what and h.granted and h.pid <> w.pid
left join l t on t.pid = w.pid and t.locktype = 'tuple' and w.locktype = 'transactionid'";

/// A waiter in a sample.
#[derive(Clone, Debug)]
struct Waiter {
    /// When its wait began; none where the server doesn't say.
    began: Option<Instant>,
    holders: Vec<i32>,
    place: Place,
}

/// What is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Table, where the server shows one.
    pub(crate) relation: Option<String>,
    /// ctid, where the server shows one.
    pub(crate) row: Option<String>,
}

/// One wait of one process, over the samples in which it was seen.
#[derive(Clone, Debug)]
struct Wait {
    pid: i32,
    began: Instant,
    last_seen: Instant,
    last_sample: u64,
    relation: Option<String>,
    root: Root,
}

/// The end of a chain of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// A process that waits for nobody.
    Holder(i32),
    /// The waiters wait for one another.
    Cycle,
    /// Whoever it was had gone on when the sample was taken.
    Gone,
}

/// Lock waits of a round, by table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LockWaits {
    /// The table; none where the server shows none (a unique key, an advisory lock).
    pub relation: Option<String>,
    /// Waits seen.
    pub waits: u64,
    /// Time waited in all, in milliseconds, up to the last sample that saw each.
    pub total_ms: f64,
    /// The longest wait, in milliseconds.
    pub max_ms: f64,
    /// Those who held what was waited for, with the waits charged to them, most first.
    pub behind: Vec<(String, u64)>,
}

/// What the samples of a round have shown.
#[derive(Debug, Default)]
pub(crate) struct LockWatch {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: u64,
    cost: Duration,
    waiting_now: u64,
    waits: Vec<Wait>,
    /// By process: the index of its latest wait in `waits`.
    current: HashMap<i32, usize>,
    recent: VecDeque<HashMap<i32, Place>>,
}

impl LockWatch {
    /// Where a process was last seen waiting.
    pub(crate) fn last_wait(&self, pid: i32) -> Option<Place> {
        self.lock().recent.iter().find_map(|sample| sample.get(&pid)).cloned()
    }

    /// How many waited in the latest sample.
    pub(crate) fn waiting_now(&self) -> u64 {
        self.lock().waiting_now
    }

    /// Samples taken, and the time the server took for them.
    pub(crate) fn cost(&self) -> (u64, Duration) {
        let seen = self.lock();
        (seen.samples, seen.cost)
    }

    /// The waits of the given processes, by table. Waits behind the `keeper` are arranged, not met, and left out; of
    /// the others the time before the gate was opened (`closed` intervals) is.
    pub(crate) fn by_relation(
        &self,
        sessions: &HashMap<i32, String>,
        keeper: Option<i32>,
        closed: &[(Instant, Instant)],
    ) -> Vec<LockWaits> {
        let mut by_relation: BTreeMap<Option<String>, (LockWaits, BTreeMap<String, u64>)> = BTreeMap::new();
        for wait in &self.lock().waits {
            let arranged = keeper.is_some_and(|pid| wait.root == Root::Holder(pid));
            if !sessions.contains_key(&wait.pid) {
                continue;
            }
            let waited = outside(wait.began, wait.last_seen, closed);
            if arranged || waited.is_zero() {
                continue;
            }
            let (waits, behind) = by_relation.entry(wait.relation.clone()).or_insert_with(|| {
                let none = LockWaits {
                    relation: wait.relation.clone(),
                    waits: 0,
                    total_ms: 0.0,
                    max_ms: 0.0,
                    behind: Vec::new(),
                };
                (none, BTreeMap::new())
            });
            let ms = waited.as_secs_f64() * 1e3;
            waits.waits += 1;
            waits.total_ms += ms;
            waits.max_ms = waits.max_ms.max(ms);
            let who = match wait.root {
                Root::Holder(pid) => sessions.get(&pid).cloned().unwrap_or_else(|| format!("process {pid}")),
                Root::Cycle => "one another".to_string(),
                Root::Gone => "a session that had gone on".to_string(),
            };
            *behind.entry(who).or_default() += 1;
        }
        let mut all: Vec<LockWaits> = by_relation
            .into_values()
            .map(|(mut waits, behind)| {
                waits.behind = behind.into_iter().collect();
                waits.behind.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
                waits
            })
            .collect();
        all.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
        all
    }

    fn record(&self, at: Instant, cost: Duration, waiters: HashMap<i32, Waiter>) {
        let mut seen = self.lock();
        seen.samples += 1;
        seen.cost += cost;
        seen.waiting_now = waiters.len() as u64;
        for (pid, waiter) in &waiters {
            let root = root(*pid, &waiters);
            let known = seen.current.get(pid).copied();
            let sample = seen.samples;
            let is_same = |wait: &Wait| match waiter.began {
                // the server's start of the wait is read with an error of a round trip
                Some(began) => wait.last_seen >= began,
                None => wait.last_sample + 1 == sample && wait.relation == waiter.place.relation,
            };
            match known.map(|i| &mut seen.waits[i]) {
                Some(wait) if is_same(wait) => {
                    wait.last_seen = at;
                    wait.last_sample = sample;
                    if root != Root::Gone {
                        wait.root = root;
                    }
                }
                _ => {
                    let index = seen.waits.len();
                    seen.waits.push(Wait {
                        pid: *pid,
                        began: waiter.began.unwrap_or(at),
                        last_seen: at,
                        last_sample: sample,
                        relation: waiter.place.relation.clone(),
                        root,
                    });
                    seen.current.insert(*pid, index);
                }
            }
        }
        if !waiters.is_empty() {
            let places = waiters.into_iter().map(|(pid, w)| (pid, w.place)).collect();
            seen.recent.push_front(places);
            seen.recent.truncate(REMEMBERED);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn root(pid: i32, waiters: &HashMap<i32, Waiter>) -> Root {
    let mut at = pid;
    for _ in 0..=waiters.len() {
        let Some(waiter) = waiters.get(&at) else {
            return Root::Holder(at);
        };
        match waiter.holders.first() {
            Some(holder) => at = *holder,
            None => return Root::Gone,
        }
    }
    Root::Cycle
}

/// The part of an interval that lies outside all the others.
fn outside(from: Instant, to: Instant, closed: &[(Instant, Instant)]) -> Duration {
    let whole = to.saturating_duration_since(from);
    let inside: Duration = closed
        .iter()
        .map(|(a, b)| to.min(*b).saturating_duration_since(from.max(*a)))
        .sum();
    whole.saturating_sub(inside)
}

/// The connection that takes samples.
#[derive(Debug)]
pub(crate) struct Sampler {
    connection: Connection,
    sample: Statement,
    period: Duration,
    period_max: Duration,
}

impl Sampler {
    /// The members of a cycle stand there for `deadlock_timeout`: samples twice as often see them all.
    pub(crate) async fn new(
        connection: Connection,
        server_version: u32,
        deadlock_timeout: Duration,
    ) -> Result<Sampler, tokio_postgres::Error> {
        let period_max = (deadlock_timeout / 2).max(Duration::from_millis(1));
        // waitstart came with PostgreSQL 14; it may be null for a moment
        let age = match server_version {
            140_000.. => "(extract(epoch from clock_timestamp() - w.waitstart) * 1e6)::int8",
            _ => "null::int8",
        };
        let sample = connection.prepare(&SAMPLE.replace("AGE", age)).await?;
        Ok(Sampler {
            connection,
            sample,
            period: PERIOD.min(period_max),
            period_max,
        })
    }

    /// Samples until dropped; without samples when the connection is lost.
    pub(crate) async fn watch(&self, watch: &LockWatch) -> Infallible {
        let mut pause = Duration::ZERO;
        loop {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            let Ok(rows) = self.connection.query(&self.sample, &[]).await else {
                return std::future::pending().await;
            };
            let at = Instant::now();
            pause = ((at - asked) * PAUSE_PER_COST).clamp(self.period, self.period_max);
            let mut waiters: HashMap<i32, Waiter> = HashMap::new();
            for row in rows {
                let age: Option<i64> = row.get("micros");
                let waited = age.map(|a| Duration::from_micros(u64::try_from(a).unwrap_or(0)));
                let waiter = waiters.entry(row.get("pid")).or_insert_with(|| Waiter {
                    began: waited.and_then(|waited| at.checked_sub(waited)),
                    holders: Vec::new(),
                    place: Place {
                        relation: row.get("relation"),
                        row: row.get("row"),
                    },
                });
                let holder: (Option<i32>, Option<&str>) = (row.get("holder"), row.get("holder_mode"));
                if let (Some(pid), Some(mode)) = holder
                    && conflict(row.get("mode"), mode)
                {
                    waiter.holders.push(pid);
                }
            }
            watch.record(at, at.duration_since(asked), waiters);
        }
    }
}

/// Lock modes in rising strength; an ungranted mode conflicts with a granted one as PostgreSQL's documentation, table 13.2, has it.
const MODES: [(&str, u8); 8] = [
    ("AccessShareLock", 0b1000_0000),
    ("RowShareLock", 0b1100_0000),
    ("RowExclusiveLock", 0b1111_0000),
    ("ShareUpdateExclusiveLock", 0b1111_1000),
    ("ShareLock", 0b1110_1100),
    ("ShareRowExclusiveLock", 0b1111_1100),
    ("ExclusiveLock", 0b1111_1110),
    ("AccessExclusiveLock", 0b1111_1111),
];

fn conflict(wanted: &str, held: &str) -> bool {
    let at = |mode: &str| MODES.iter().position(|(m, _)| *m == mode);
    match (at(wanted), at(held)) {
        (Some(wanted), Some(held)) => MODES[wanted].1 & (1 << held) != 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(began: Instant, holders: &[i32]) -> Waiter {
        Waiter {
            began: Some(began),
            holders: holders.to_vec(),
            place: Place {
                relation: Some("room".into()),
                row: None,
            },
        }
    }

    #[test]
    fn lock_modes_conflict_both_ways_and_as_documented() {
        for (a, _) in MODES {
            for (b, _) in MODES {
                assert_eq!(conflict(a, b), conflict(b, a), "{a} {b}");
            }
        }
        assert!(
            conflict("RowExclusiveLock", "ShareLock"),
            "the write gate holds writers"
        );
        assert!(!conflict("RowShareLock", "ShareLock"), "and lets row locks pass");
        assert!(!conflict("ShareLock", "ShareLock"));
        assert!(conflict("ShareUpdateExclusiveLock", "ShareUpdateExclusiveLock"));
    }

    #[test]
    fn followers_are_charged_to_the_root() {
        let now = Instant::now();
        let waiters = HashMap::from([
            (2, waiter(now, &[1])),
            (3, waiter(now, &[2])),
            (4, waiter(now, &[3, 2])),
        ]);
        assert_eq!(root(4, &waiters), Root::Holder(1));
        let cycle = HashMap::from([(1, waiter(now, &[2])), (2, waiter(now, &[1]))]);
        assert_eq!(root(1, &cycle), Root::Cycle);
        assert_eq!(root(1, &HashMap::from([(1, waiter(now, &[]))])), Root::Gone);
    }

    #[test]
    fn arranged_waiting_is_not_counted() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let watch = LockWatch::default();
        // 9 keeps the gate; 1 waits at it, 2 behind the row lock of 1, until the gate opens at 10
        watch.record(
            at(5),
            Duration::ZERO,
            HashMap::from([(1, waiter(at(1), &[9])), (2, waiter(at(2), &[1]))]),
        );
        watch.record(at(30), Duration::ZERO, HashMap::from([(2, waiter(at(2), &[1]))]));
        let sessions = HashMap::from([(1, "guest 1".to_string()), (2, "guest 2".to_string())]);
        let waits = watch.by_relation(&sessions, Some(9), &[(at(0), at(10))]);
        assert_eq!(waits.len(), 1);
        assert_eq!((waits[0].waits, waits[0].total_ms.round()), (1, 20.0));
        assert_eq!(waits[0].behind, [("guest 1".to_string(), 1)]);
    }
}
