//! The connection that takes samples.
//!
//! Each sample asks what every backend does, which is cheap. Only when one of them waits for a lock, `pg_locks` is read,
//! once, and every waiter paired with what is held on the same object; and only while a row is waited for, or a cycle
//! stands, the tables are looked into.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::future;
use tokio_postgres::{Error, Row, Statement};

use super::activity::{self, ACTIVITY, BackendState};
use super::graph::{Place, Waiter, conflict, row_lock, table_lock};
use super::locks::{LockWatch, Todo};
use super::rows::Rows;
use super::sighting::Sighting;
use crate::postgres::Connection;

/// How often samples are taken, where `deadlock_timeout` doesn't ask for more.
const PERIOD: Duration = Duration::from_millis(20);
/// The next sample is taken after so many times what the last one took, so that it can't slow the race down much; but never
/// later than after half of `deadlock_timeout`.
const PAUSE_PER_COST: u32 = 75;
/// After so many samples in which nobody waited, the next ones are farther apart, up to 2³ times as far.
const QUIET_MIN: u32 = 5;
const QUIET_DOUBLINGS: u32 = 3;
/// It rests for so long in any case.
const REST: Duration = Duration::from_millis(5);
/// The sampler must not stand in the queues that it watches, nor read for long.
const SETTINGS: &str = "set lock_timeout = '5ms'; set statement_timeout = '1s'";
/// Rows whose keys are asked for after a sample.
const ROWS_MAX: usize = 8;

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
select w.pid, h.pid as holder, w.mode, h.mode as holder_mode, w.locktype,
       coalesce(w.relation, t.relation) as oid,
       coalesce(w.relation, t.relation)::regclass::text as relation,
       '(' || coalesce(w.page, t.page) || ',' || coalesce(w.tuple, t.tuple) || ')' as row,
       t.mode as tuple_mode,
       case w.objsubid when 1 then ((w.classid::int8 << 32) | w.objid::int8)::text
                       when 2 then '(' || w.classid || ', ' || w.objid || ')' end as advisory,
       AGE as micros
from w
left join l h on h.what = w.what and h.granted and h.pid <> w.pid
left join l t on t.pid = w.pid and t.locktype = 'tuple' and w.locktype = 'transactionid'
where w.pid <> pg_catalog.pg_backend_pid()";

/// Takes samples of the server's locks.
#[derive(Debug)]
pub(crate) struct Sampler {
    connection: Connection,
    activity: Statement,
    locks: Statement,
    rows: Rows,
    period: Duration,
    period_max: Duration,
}

impl Sampler {
    /// The members of a cycle stand there for `deadlock_timeout`: samples twice as often see them all.
    pub(crate) async fn new(
        connection: Connection,
        server_version: u32,
        deadlock_timeout: Duration,
    ) -> Result<Sampler, Error> {
        let period_max = (deadlock_timeout / 2).max(Duration::from_millis(1));
        connection.batch_execute(SETTINGS).await?;
        // waitstart came with PostgreSQL 14; it may be null for a moment
        let age = match server_version {
            140_000.. => "(extract(epoch from clock_timestamp() - w.waitstart) * 1e6)::int8",
            _ => "null::int8",
        };
        let activity = connection.prepare(ACTIVITY).await?;
        let locks = connection.prepare(&SAMPLE.replace("AGE", age)).await?;
        let rows = Rows::new(&connection).await?;
        // the first time takes longest, and should not be in the race
        connection.query(&activity, &[]).await?;
        connection.query(&locks, &[]).await?;
        Ok(Sampler {
            activity,
            locks,
            rows,
            connection,
            period: PERIOD.min(period_max),
            period_max,
        })
    }

    /// Samples until dropped; without samples when the connection is lost. Each sample `meets` those who wait and those
    /// they wait for, while they do.
    pub(crate) async fn watch(&self, watch: &LockWatch, meets: &(dyn Fn(&HashSet<i32>) + Sync)) -> Infallible {
        let mut waited = false;
        let mut quiet = 0u32;
        loop {
            let asked = Instant::now();
            match self.sample(watch, waited, meets).await {
                Ok((any, todo)) => {
                    waited = any;
                    self.look(watch, asked, todo).await;
                }
                // a sample that took too long is left out
                Err(error) if error.as_db_error().is_some() && !self.connection.is_closed() => {}
                Err(_) => return std::future::pending().await,
            }
            let took = asked.elapsed();
            watch.add_cost(took);
            // while nobody waits there is less and less to miss
            quiet = if waited { 0 } else { quiet + 1 };
            let period = self.period * (1 << quiet.saturating_sub(QUIET_MIN).min(QUIET_DOUBLINGS));
            let period = period.max(took * PAUSE_PER_COST).min(self.period_max);
            // from start to start: on a busy machine an answer may take as long as a cycle may stand
            tokio::time::sleep(period.saturating_sub(took).max(REST)).await;
        }
    }

    /// Whether anybody waits, and what to look into. Where somebody `waited` a moment ago, both questions are sent at once.
    async fn sample(
        &self,
        watch: &LockWatch,
        waited: bool,
        meets: &(dyn Fn(&HashSet<i32>) + Sync),
    ) -> Result<(bool, Todo), Error> {
        let activity = self.connection.query(&self.activity, &[]);
        let locks = self.connection.query(&self.locks, &[]);
        let (activity, locks) = match waited {
            true => {
                let (activity, locks) = future::join(activity, locks).await;
                (activity?, Some(locks?))
            }
            false => (activity.await?, None),
        };
        let states: HashMap<i32, BackendState> = activity.iter().map(activity::read).collect();
        let any = states.values().any(|s| s.waits_for_a_lock);
        let locks = match locks {
            None if any => self.connection.query(&self.locks, &[]).await?,
            locks => locks.unwrap_or_default(),
        };
        let at = Instant::now();
        let waiters = read_waiters(&locks, at);
        if !waiters.is_empty() {
            let holders = waiters.values().flat_map(|w| w.holders.iter());
            meets(&waiters.keys().chain(holders).copied().collect());
        }
        Ok((any, watch.record(at, states, &waiters)))
    }

    /// The names of tables; those that are gone have none.
    pub(crate) async fn names(&self, tables: &[u32]) -> HashMap<u32, String> {
        if tables.is_empty() {
            return HashMap::new();
        }
        let sql = "select oid, oid::regclass::text from pg_catalog.pg_class where oid = any ($1)";
        let rows = self.connection.query(sql, &[&tables]).await.unwrap_or_default();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Looks into the tables; what can't be read stays unknown.
    async fn look(&self, watch: &LockWatch, asked: Instant, todo: Todo) {
        if !todo.cycle.is_empty() {
            self.sight(watch, asked, todo.cycle).await;
        }
        let rows: Vec<(u32, String)> = todo.rows.into_iter().take(ROWS_MAX).collect();
        let keys = rows.iter().map(|(oid, row)| self.rows.key(&self.connection, *oid, row));
        for ((oid, row), key) in rows.iter().zip(future::join_all(keys).await) {
            if let Some(key) = key {
                watch.resolved(*oid, row, &key);
            }
        }
    }

    /// Looks at a cycle, while it stands; surely it did after the sample was asked for.
    async fn sight(&self, watch: &LockWatch, asked: Instant, cycle: BTreeMap<i32, Vec<i32>>) {
        let pids: Vec<i32> = cycle.keys().copied().collect();
        let holders = cycle.into_iter().collect();
        let places = watch.read(|seen| {
            let place = |pid: &i32| Some((*pid, seen.current(*pid)?.place.clone()));
            pids.iter().filter_map(place).collect()
        });
        let found = self.rows.locked(&self.connection, &pids).await;
        let found = found.unwrap_or_else(|_| Sighting::new(asked));
        watch.sighted(Sighting {
            at: asked,
            places,
            holders,
            ..found
        });
    }
}

fn read_waiters(rows: &[Row], at: Instant) -> HashMap<i32, Waiter> {
    let mut waiters: HashMap<i32, Waiter> = HashMap::new();
    for row in rows {
        let waiter = waiters.entry(row.get("pid")).or_insert_with(|| waiter(row, at));
        let holder: (Option<i32>, Option<&str>) = (row.get("holder"), row.get("holder_mode"));
        if let (Some(pid), Some(mode)) = holder
            && conflict(row.get("mode"), mode)
        {
            waiter.holders.push(pid);
        }
    }
    waiters
}

fn waiter(row: &Row, at: Instant) -> Waiter {
    let age: Option<i64> = row.get("micros");
    let waited = age.map(|a| Duration::from_micros(u64::try_from(a).unwrap_or(0)));
    Waiter {
        began: waited.and_then(|waited| at.checked_sub(waited)),
        holders: Vec::new(),
        place: place(row),
    }
}

fn place(row: &Row) -> Place {
    let mode: &str = row.get("mode");
    let relation: Option<String> = row.get("relation");
    let place = Place {
        oid: row.get("oid"),
        relation,
        ..Place::default()
    };
    match row.get("locktype") {
        "tuple" => Place {
            row: row.get("row"),
            lock: row_lock(mode).map(String::from),
            ..place
        },
        "transactionid" => Place {
            row: row.get("row"),
            lock: row
                .get::<_, Option<&str>>("tuple_mode")
                .and_then(row_lock)
                .map(String::from),
            ..place
        },
        "relation" => Place {
            lock: Some(table_lock(mode)),
            ..place
        },
        "advisory" => Place {
            relation: row
                .get::<_, Option<String>>("advisory")
                .map(|key| format!("advisory lock {key}")),
            lock: Some(table_lock(mode)),
            ..place
        },
        _ => place,
    }
}
