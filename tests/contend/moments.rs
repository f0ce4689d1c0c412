//! Ctrl-C at random moments, from the start of the process to its end.

use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::common::database::Database;
use crate::common::run::{Run, Running};
use crate::common::{Sandbox, TestServer, wait_until};

/// Long and short transactions, conflicts that are tried again, and starts at a rate.
const TIMED: &str = r#"
title = "Two seconds of everything"
PLACE
[[sessions]]
name        = "touch"
sessions    = 6
schedule    = { kind = "constant", duration = "2s" }
transaction = { isolation = "repeatable-read" }
retry       = { times = 3, backoff = "5ms" }
steps       = [
    { name = "slow", sql = "select pg_sleep(0.02)" },
    { name = "write", sql = "update TABLE set name = name where ID = :k" },
]
[[sessions]]
name     = "nap"
sessions = 4
schedule = { kind = "constant-rate", rate = "100/s", duration = "2s" }
steps    = [{ name = "sleep", sql = "select pg_sleep(0.005)" }]
"#;
/// Of the bundled system, on a server or in a database made for the run.
const BUNDLED: [&str; 3] = [
    "system = \"hotel\"\n[keys]\nsql = \"select room_type_id as k from room_types limit 1\"",
    "room_types",
    "room_type_id",
];
/// In the user's own database.
const OWN: [&str; 3] = ["[keys]\nsql = \"select id as k from things\"", "things", "id"];

fn timed([place, table, id]: [&str; 3]) -> String {
    TIMED.replace("PLACE", place).replace("TABLE", table).replace("ID", id)
}

/// A kind of run, and a place where it can leave something.
struct Site {
    sandbox: Sandbox,
    words: String,
    /// How to look at the user's server, where the run is on one.
    url: Option<String>,
}

const GATED: &str = "contend last-room --sessions 20 --rounds 3 --format json";

/// A gated and a timed one, on throwaway servers and on those of the user.
fn sites(servers: &[TestServer; 2]) -> [Site; 4] {
    let site = |words: &dyn Fn(&Sandbox) -> String, server: Option<&TestServer>| {
        let sandbox = Sandbox::new();
        let words = words(&sandbox);
        let url = server.map(TestServer::url);
        Site {
            words: match &url {
                Some(url) => format!("{words} --url {url}"),
                None => words,
            },
            sandbox,
            url,
        }
    };
    let gated = |_: &Sandbox| GATED.to_string();
    let timed = |place: [&'static str; 3]| {
        move |sandbox: &Sandbox| format!("contend {} --format json", sandbox.write("timed.toml", &timed(place)))
    };
    let [for_gated, for_timed] = servers;
    for_timed.exec("create table things (id int primary key, name text); insert into things values (1, 'one')");
    [
        site(&gated, None),
        site(&timed(BUNDLED), None),
        site(&gated, Some(for_gated)),
        site(&timed(OWN), Some(for_timed)),
    ]
}

impl Site {
    /// In a process group of its own, as a shell does.
    fn start(&self) -> Running {
        let mut command = self.sandbox.command(&self.words);
        command.process_group(0);
        Running::start(command)
    }

    fn assert_nothing_left(&self) {
        // the guard of one that was ended at once needs a moment
        wait_until("no process and no directory is left", Duration::from_secs(3), || {
            self.sandbox.run_dirs().is_empty()
                && crate::common::processes::postgres_in(&self.sandbox.temp_dir()).is_empty()
        });
        let Some(url) = &self.url else { return };
        let server = Database::connect(url);
        for (what, sql) in LEFT {
            wait_until(what, Duration::from_secs(3), || server.value(sql) == "0");
        }
    }
}

/// What nobody but a run has on the user's server: the test looks at another time.
const LEFT: [(&str, &str); 4] = [
    (
        "no session is left",
        "select count(*) from pg_stat_activity where application_name like 'db-race/%'",
    ),
    (
        "no lock is left",
        "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
         where a.backend_type = 'client backend' and pid <> pg_backend_pid()",
    ),
    (
        "no database is left",
        "select count(*) from pg_database where datname like 'db\\_race%'",
    ),
    (
        "no prepared transaction is left",
        "select count(*) from pg_prepared_xacts",
    ),
];

/// From the clock, unless somebody wants to see a run again.
#[allow(clippy::print_stdout, reason = "shown when the test fails")]
fn seed() -> u64 {
    let given = std::env::var("DB_RACE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = given.unwrap_or_else(|| now().as_millis() as u64);
    println!("DB_RACE_TEST_SEED={seed}");
    seed
}

/// Interrupts runs of every kind, each kind for itself, at moments spread over the time that a whole one takes.
fn at_random_moments(times: u32, interrupt: impl Fn(&Running, &Site, &mut Xoshiro256PlusPlus) + Sync) {
    let seed = seed();
    let home = Sandbox::new();
    let servers = [home.server(), home.server()];
    let at_moments = |site: &Site, seed: u64| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let began = Instant::now();
        let whole = site.start().wait().exits(0);
        let length = began.elapsed();
        whole.json();
        for n in 0..times {
            // each in its own part of the time, so that every phase is met
            let part = length.mul_f64(1.05) / times;
            let at = part * n + rng.random_range(Duration::ZERO..part);
            let run = site.start();
            thread::sleep(at);
            interrupt(&run, site, &mut rng);
            let run = run.wait_at_most(Duration::from_secs(20));
            assert_complete(&run, at);
            site.assert_nothing_left();
        }
    };
    thread::scope(|scope| {
        for (site, seed) in sites(&servers).into_iter().zip(seed..) {
            scope.spawn(move || at_moments(&site, seed));
        }
    });
}

/// A report, whole, that accuses nobody; or none, where there was nothing to report.
#[track_caller]
fn assert_complete(run: &Run, at: Duration) {
    match run.code {
        // the signal came before main()
        None => assert!(
            at < Duration::from_millis(200) && run.stdout.is_empty() && run.stderr.is_empty(),
            "{at:?}\n{run}"
        ),
        Some(130) if run.stdout.is_empty() => {
            assert!(run.stderr.contains("interrupted"), "{at:?}\n{run}");
        }
        Some(code) => {
            let report = run.json();
            let outcome = report["verdict"]["outcome"].as_str().unwrap();
            let expected: &[&str] = match code {
                130 => &["interrupted"],
                // it had ended when the signal came
                0 => &["passed"],
                _ => &[],
            };
            assert!(expected.contains(&outcome), "{at:?}\n{run}");
        }
    }
}

#[test]
fn ctrl_c_at_50_random_moments_leaves_nothing_and_the_report_is_whole() {
    // 13 moments of each of the four kinds
    at_random_moments(13, |run, _, rng| {
        let pid = Pid::from_raw(run.pid() as i32);
        // a terminal sends it to all processes of the foreground
        match rng.random_bool(0.5) {
            true => drop(killpg(pid, Signal::SIGINT)),
            false => drop(nix::sys::signal::kill(pid, Signal::SIGINT)),
        }
    });
}

#[test]
fn who_presses_ctrl_c_twice_waits_for_nothing_and_leaves_nothing() {
    at_random_moments(6, |run, site, rng| {
        let pid = Pid::from_raw(run.pid() as i32);
        let _ = killpg(pid, Signal::SIGINT);
        thread::sleep(rng.random_range(Duration::ZERO..Duration::from_millis(400)));
        let _ = killpg(pid, Signal::SIGINT);
        // there is no guard on a user's server, so a run has a little longer there to clean up
        let at_most = Duration::from_millis(if site.url.is_some() { 3_500 } else { 1_500 });
        let asked = Instant::now();
        while crate::common::processes::is_alive(run.pid()) {
            assert!(asked.elapsed() < at_most, "it still runs");
            thread::sleep(Duration::from_millis(5));
        }
    });
}
