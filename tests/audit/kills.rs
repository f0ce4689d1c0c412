//! Whatever dies at whatever moment of an audit: the memory opens, is whole, and the next run tells exactly what happened.

#![allow(clippy::print_stdout, reason = "cargo shows it when a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use crate::common::database::Database;
use crate::common::processes::is_alive;
use crate::common::run::Running;
use crate::common::{Sandbox, TestServer, signal, wait_for, wait_until};
use crate::proxy::Proxy;
use crate::{ids, told};

const CHECKS: u32 = 6;
const ITEMS: u32 = 60;

/// Which items are open, by the check that finds them.
type Open = BTreeMap<u32, BTreeSet<u32>>;

#[derive(Clone, Copy, Debug)]
enum Kill {
    /// `kill -9` of the tool.
    Tool,
    /// `kill -9` of one of the server's processes: it ends all sessions and recovers.
    Server,
    /// All connections are closed, and new ones are refused.
    Network,
    /// All that is sent is lost for a while, then the connections are closed.
    Silence,
}

struct World {
    sandbox: Sandbox,
    server: TestServer,
    proxy: Proxy,
    state: State,
}

enum State {
    File(PathBuf),
    Database(String),
}

impl World {
    fn new(in_database: bool) -> World {
        let sandbox = Sandbox::new();
        let server = sandbox.server();
        server.exec(&format!(
            "create table item (id int primary key, stock int not null); insert into item select n, 1 from generate_series(1, {ITEMS}) n"
        ));
        server.exec("create database memory");
        for check in 0..CHECKS {
            // the pause makes an audit long enough for something to happen in each of its phases
            let text = format!(
                "-- /// db-race check\n-- id = \"shop.{check}\"\n-- title = \"t\"\n-- key = [\"id\"]\n-- ///\n\
                 select id from item, pg_sleep(0.02) where stock < 0 and id % {CHECKS} = {check}\n"
            );
            sandbox.write(&format!("checks/{check}.sql"), &text);
        }
        let url = server.url();
        let dir = url.split("host=").nth(1).unwrap().split('&').next().unwrap();
        let proxy = Proxy::start(Path::new(dir).join(".s.PGSQL.5432"));
        let state = match in_database {
            true => State::Database(server.url_of("postgres@/memory")),
            false => State::File(sandbox.dir().join("state.sqlite")),
        };
        World {
            sandbox,
            server,
            proxy,
            state,
        }
    }

    fn words(&self) -> String {
        let state = match &self.state {
            State::File(path) => path.to_str().unwrap(),
            State::Database(url) => url,
        };
        let port = self.proxy.port;
        format!("audit checks --url postgresql://postgres@127.0.0.1:{port}/postgres --state {state} --format json")
    }

    /// A new connection: the last one may have died.
    fn connect(&self, url: &str) -> Database {
        wait_for("the server", Duration::from_secs(30), || Database::try_connect(url))
    }

    /// Rows of the memory's tables.
    fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        match &self.state {
            State::Database(url) => {
                let database = self.connect(url);
                database.exec("set search_path = db_race_audit");
                database.rows(sql)
            }
            State::File(path) => {
                let file = rusqlite::Connection::open(path).unwrap();
                let whole: String = file.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(whole, "ok");
                let mut statement = file.prepare(sql).unwrap();
                let columns = statement.column_count();
                let text = |row: &rusqlite::Row<'_>, i| match row.get::<_, rusqlite::types::Value>(i).unwrap() {
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    _ => "NULL".into(),
                };
                let rows = statement.query_map([], |row| Ok((0..columns).map(|i| text(row, i)).collect()));
                rows.unwrap().map(Result::unwrap).collect()
            }
        }
    }

    fn last_run(&self) -> String {
        self.ask("select coalesce(max(id), 0) from run").remove(0).remove(0)
    }

    fn open(&self) -> Open {
        let mut open = nothing();
        for row in self.ask("select check_id, key ->> 'id' from finding where closed_at is null") {
            let check = row[0].trim_start_matches("shop.").parse().unwrap();
            open.get_mut(&check).unwrap().insert(row[1].parse().unwrap());
        }
        open
    }

    fn strike(&self, kill: Kill, run: &Running) {
        match kill {
            Kill::Tool => run.signal(Signal::SIGKILL),
            Kill::Server => {
                let [dying, witness] = [(); 2].map(|()| self.connect(&self.server.url()));
                let pid = |of: &Database| of.value("select pg_backend_pid()").parse().unwrap();
                let (dying_pid, witness_pid) = (pid(&dying), pid(&witness));
                signal(dying_pid, Signal::SIGKILL);
                wait_until("the server ends all sessions", Duration::from_secs(20), || {
                    !is_alive(witness_pid)
                });
                drop((dying, witness));
            }
            Kill::Network => self.proxy.cut(),
            Kill::Silence => {
                self.proxy.swallow();
                thread::sleep(Duration::from_millis(100));
                self.proxy.cut();
            }
        }
    }
}

fn nothing() -> Open {
    (0..CHECKS).map(|check| (check, BTreeSet::new())).collect()
}

fn flat<'a>(open: impl IntoIterator<Item = &'a BTreeSet<u32>>) -> BTreeSet<u32> {
    open.into_iter().flatten().copied().collect()
}

/// Kills at random moments, and looks after each of them.
fn kill_often(in_database: bool, kills: u32, seed: u64) {
    println!("seed {seed}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let world = World::new(in_database);
    // how long an audit takes here and now
    let began = Instant::now();
    world.sandbox.run(&world.words()).exits(0);
    let whole = began.elapsed();
    let mut broken: BTreeSet<u32> = BTreeSet::new();
    let mut believed = nothing();
    let mut ever: BTreeSet<u32> = BTreeSet::new();
    let mut complete_runs = 0;
    for round in 0..kills {
        for id in 1..=ITEMS {
            if random.random_bool(0.2) && !broken.remove(&id) {
                broken.insert(id);
            }
        }
        let list = broken.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let database = world.connect(&world.server.url());
        database.exec(&format!(
            "update item set stock = case when id = any ('{{{list}}}') then -1 else 1 end"
        ));
        drop(database);
        let kill = [Kill::Tool, Kill::Server, Kill::Network, Kill::Silence][random.random_range(0..4)];
        let after = whole.mul_f64(random.random_range(0.0..1.2));
        let what = format!("seed {seed}, round {round}: {kill:?} after {after:?}");

        let before = world.last_run();
        let run = world.sandbox.start(&world.words());
        thread::sleep(after);
        world.strike(kill, &run);
        let run = run.wait();
        world.proxy.restore();
        drop(world.connect(&world.server.url()));

        // either it is remembered or not; what each check saw is true, and what it didn't see is as it was
        let last = world.last_run();
        let is_complete = last != before
            && world
                .ask("select 1 from run where complete and id = (select max(id) from run)")
                .len()
                == 1;
        complete_runs += u32::from(is_complete);
        let looks = world.ask("select check_id, decision from look where run_id = (select max(id) from run)");
        let decided: BTreeSet<u32> = looks
            .iter()
            .filter(|look| is_complete && look[1] != "could_not_decide")
            .map(|look| look[0].trim_start_matches("shop.").parse().unwrap())
            .collect();
        let truth =
            |check: u32| -> BTreeSet<u32> { broken.iter().copied().filter(|id| id % CHECKS == check).collect() };
        let mut expected = believed.clone();
        for check in &decided {
            expected.insert(*check, truth(*check));
        }
        assert_eq!(world.open(), expected, "{what}\n{run}");
        if let Ok(report) = serde_json::from_str::<Value>(&run.stdout) {
            let fixed: BTreeSet<u32> = ids(&report["audit"], "fixed").into_iter().collect();
            let gone = flat(believed.values())
                .difference(&broken)
                .copied()
                .collect::<BTreeSet<u32>>();
            let seen: BTreeSet<u32> = gone.into_iter().filter(|id| fixed.contains(id)).collect();
            assert_eq!(fixed, seen, "{what}: only what is gone is fixed\n{run}");
        }
        ever.extend(flat(expected.values()));
        believed = expected;

        // the next one tells exactly what has happened since
        let next = world.sandbox.run(&world.words()).json();
        let (open, now) = (flat(believed.values()), broken.clone());
        let [new, still, fixed, back] = told(&next["audit"]).map(BTreeSet::from_iter);
        let came: BTreeSet<u32> = now.difference(&open).copied().collect();
        assert_eq!(still, &open & &now, "{what}: still open");
        assert_eq!(fixed, &open - &now, "{what}: fixed");
        assert_eq!(new, &came - &ever, "{what}: new");
        assert_eq!(back, &came & &ever, "{what}: came back");
        ever.extend(&now);
        believed = (0..CHECKS).map(|check| (check, truth(check))).collect();
        assert_eq!(world.open(), believed, "{what}");
    }
    println!("{complete_runs} of {kills} runs were complete all the same");
    assert!(complete_runs < kills, "something was hit");
}

/// Another one each time; `DB_RACE_TEST_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("DB_RACE_TEST_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

#[test]
fn thirty_kills_with_the_memory_in_a_file() {
    kill_often(false, 30, seed());
}

#[test]
fn twenty_kills_with_the_memory_in_a_database() {
    kill_often(true, 20, seed());
}

#[test]
fn a_network_that_says_nothing_any_more_ends_an_audit_in_time() {
    let world = World::new(false);
    world.server.exec("update item set stock = -1 where id = 1");
    world.sandbox.run(&world.words()).exits(2);
    let before = world.open();
    world.server.exec("update item set stock = 1");
    let holder = world.connect(&world.server.url());
    holder.exec("begin; lock table item");
    let run = world
        .sandbox
        .start(&format!("{} --timeout 1s --only shop.1", world.words()));
    let waits = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify' and wait_event_type = 'Lock') > 0";
    wait_until("a check waits", Duration::from_secs(20), || world.server.is(waits));
    world.proxy.swallow();
    let run = run.wait_at_most(Duration::from_secs(120)).exits(3);
    assert!(ids(&run.json()["audit"], "fixed").is_empty(), "{run}");
    world.proxy.restore();
    holder.exec("rollback");
    assert_eq!(world.open(), before);
}
