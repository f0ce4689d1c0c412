//! What an attempt costs beside pgbench: throughput, client CPU, memory a session.
//!
//! Both drive one server of the bench (unix socket, fsync off, autovacuum off) with the same statements, the same number
//! of sessions and the same number of attempts a session: pgbench with `-M prepared -j 1`, because db-race has one
//! thread too, and db-race as a user runs it, its sampler and its report included.
//!
//! Connecting, preparing and the first call on a cold connection count for neither: a figure is the difference between a
//! long run and one with a single attempt a session. (pgbench prepares inside its window, db-race before it.) Runs alternate;
//! figures are medians, ratios those of neighbours with the 95% interval of their median (below 6 pairs: their range).
//!
//! | variable | |
//! |---|---|
//! | `BENCH_RUNS` | pairs for each figure; default 5 |
//! | `BENCH_SECONDS` | about how long a run takes, ten times as long with 1,000 sessions; default 0.7 |
//! | `BENCH_WORKLOADS`, `BENCH_SESSIONS` | only these, with commas between |
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use db_race::place::Place;
use db_race::postgres::server::{Options, Server};
use db_race::stop::Stop;
use db_race::system::System;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::Value;
use tempfile::NamedTempFile;

use common::pgbench;

macro_rules! workload {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("throughput/", $name, ".toml")),
            include_str!(concat!("throughput/", $name, ".sql")),
        )
    };
}

/// Name, db-race's scenario, pgbench's script.
const WORKLOADS: [(&str, &str, &str); 4] = [
    workload!("select-1"),
    workload!("update"),
    workload!("tpc-b"),
    workload!("hold"),
];
const SESSIONS: [u64; 4] = [1, 16, 100, 1_000];
const SETUP: &str = include_str!("throughput/setup.sql");
const RESET: &str = include_str!("throughput/reset.sql");
/// Short runs for each figure.
const SHORT_RUNS: usize = 3;
/// With so many sessions the short run takes long itself, and the long one must be much longer.
const MANY: u64 = 1_000;

const THROUGHPUT_AT_LEAST: f64 = 1.0;
const CPU_AT_MOST: f64 = 1.2;
const KIB_A_SESSION_AT_MOST: f64 = 64.0;

/// What one run of either program took, its process as a whole.
#[derive(Clone, Copy)]
struct Taken {
    attempts: f64,
    /// Of the race alone, in seconds.
    window: f64,
    /// Of the client, in seconds.
    cpu: f64,
    /// Peak.
    rss_kib: Option<f64>,
}

/// The same workload for both.
struct Task {
    sessions: u64,
    scenario: &'static str,
    script: &'static str,
}

struct Bench {
    url: String,
    bin_dir: std::path::PathBuf,
    client: db_race::postgres::Connection,
    runtime: tokio::runtime::Runtime,
}

fn main() {
    let runs: usize = setting("BENCH_RUNS", 5);
    let seconds: f64 = setting("BENCH_SECONDS", 0.7);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options = Options {
        max_connections: 1_200,
        ..Options::default()
    };
    let place = runtime.block_on(prepare(&options));
    let server = place.server().expect("a throwaway server");
    let client = runtime.block_on(place.target.connect("bench")).expect("a connection");
    let bench = Bench::new(server, client, runtime);

    println!(
        "pgbench -M prepared -j 1 and db-race contend; medians of {runs} pairs, ratios db-race / pgbench (95% interval)\n"
    );
    println!("{:22}{:^43}{:^42}", "", "attempts/s", "client CPU, us an attempt");
    println!(
        "{:11}{:>8}   {:>9}{:>9}  {:23}{:>9}{:>9}  ratio",
        "", "sessions", "pgbench", "db-race", "ratio", "pgbench", "db-race"
    );
    let mut memory: Vec<(u64, [Option<f64>; 2])> = Vec::new();
    for (name, scenario, script) in WORKLOADS {
        for sessions in SESSIONS {
            if !asked("BENCH_WORKLOADS", name) || !asked("BENCH_SESSIONS", &sessions.to_string()) {
                continue;
            }
            let task = Task {
                sessions,
                scenario,
                script,
            };
            let short = bench.short(&task);
            if name == WORKLOADS[0].0 {
                memory.push((sessions, short.map(|taken| taken.rss_kib)));
            }
            let seconds = if sessions >= MANY { 10.0 * seconds } else { seconds };
            let iterations = bench.iterations(&task, short[0], seconds);
            let pairs: Vec<[Taken; 2]> = (0..runs)
                .map(|i| bench.pair(&task, iterations, i % 2 == 1))
                .map(|pair| [pair[0].beyond(short[0]), pair[1].beyond(short[1])])
                .collect();
            report(name, sessions, &pairs);
        }
    }
    println!("\n* misses the target: throughput at least {THROUGHPUT_AT_LEAST:.1}, CPU at most {CPU_AT_MOST:.1}");
    report_memory(&memory);
    let Bench { runtime, client, .. } = bench;
    drop(client);
    runtime.block_on(place.leave()).expect("an end");
}

async fn prepare(options: &Options) -> Place {
    let place = Place::throwaway(options, &Stop::default()).await.expect("a server");
    let hotel = System::find("hotel", Path::new("")).expect("the hotel");
    place
        .with(&hotel, None, &Stop::default())
        .await
        .expect("the hotel is installed")
}

impl Bench {
    fn new(server: &Server, client: db_race::postgres::Connection, runtime: tokio::runtime::Runtime) -> Bench {
        let url = server.url();
        let made = pgbench(server.bin_dir())
            .args(["-i", "-s", "10", "-q", &url])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("pgbench runs").success(), "pgbench -i");
        runtime.block_on(client.batch_execute(SETUP)).expect("a setup");
        Bench {
            url,
            bin_dir: server.bin_dir().to_path_buf(),
            client,
            runtime,
        }
    }

    /// One attempt a session: what connecting, preparing and a cold start take. Medians of each.
    fn short(&self, task: &Task) -> [Taken; 2] {
        let pairs: Vec<_> = (0..SHORT_RUNS).map(|i| self.pair(task, 1, i % 2 == 1)).collect();
        [0, 1].map(|who| Taken {
            attempts: task.sessions as f64,
            window: median(pairs.iter().map(|p| p[who].window)),
            cpu: median(pairs.iter().map(|p| p[who].cpu)),
            rss_kib: pairs[0][who]
                .rss_kib
                .map(|_| median(pairs.iter().filter_map(|p| p[who].rss_kib))),
        })
    }

    /// Attempts a session with which pgbench takes about that long.
    fn iterations(&self, task: &Task, short: Taken, seconds: f64) -> u64 {
        let mut iterations = 10;
        loop {
            let taken = self.pgbench(task, iterations).beyond(short);
            if taken.window >= seconds / 5.0 {
                return ((taken.rate() * seconds / task.sessions as f64) as u64).max(2);
            }
            iterations *= 4;
        }
    }

    fn pair(&self, task: &Task, iterations: u64, turned: bool) -> [Taken; 2] {
        if turned {
            let second = self.db_race(task, iterations);
            [self.pgbench(task, iterations), second]
        } else {
            [self.pgbench(task, iterations), self.db_race(task, iterations)]
        }
    }

    fn pgbench(&self, task: &Task, iterations: u64) -> Taken {
        let script = file(task.script);
        let sessions = task.sessions.to_string();
        let mut command = pgbench(&self.bin_dir);
        command.args(["-n", "-M", "prepared", "-j", "1", "-c", &sessions]);
        command
            .args(["-t", &iterations.to_string(), "-f"])
            .arg(script.path())
            .arg(&self.url);
        let (output, cpu, rss_kib) = self.run(command);
        let rate: f64 = number(&output, "tps = ");
        let attempts: f64 = number(&output, "number of transactions actually processed: ");
        assert_eq!(attempts, (task.sessions * iterations) as f64, "{output}");
        Taken {
            attempts,
            window: attempts / rate,
            cpu,
            rss_kib,
        }
    }

    fn db_race(&self, task: &Task, iterations: u64) -> Taken {
        let scenario = task
            .scenario
            .replace("iterations = 1 ", &format!("iterations = {iterations} "));
        let scenario = file(&scenario);
        let sessions = task.sessions.to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_db-race"));
        command.arg("contend").arg(scenario.path()).args(["--url", &self.url]);
        command.args(["--sessions", &sessions, "--no-control", "--format", "json"]);
        let (output, cpu, rss_kib) = self.run(command);
        let report: Value = serde_json::from_str(&output).expect("a report");
        let race = &report["race"];
        let attempts = race["attempts"]["accepted"].as_u64();
        assert_eq!(attempts, Some(task.sessions * iterations), "{output}");
        let took = race["rounds"][0]["duration_ms"].as_f64().expect("a duration");
        Taken {
            attempts: (task.sessions * iterations) as f64,
            window: took / 1e3,
            cpu,
            rss_kib,
        }
    }

    /// Runs a program on tidy tables: what it wrote, its CPU time and its peak memory.
    fn run(&self, mut command: Command) -> (String, f64, Option<f64>) {
        for statement in RESET.lines().filter(|line| !line.starts_with("--")) {
            self.runtime
                .block_on(self.client.batch_execute(statement))
                .expect("a reset");
        }
        let output = NamedTempFile::new().expect("a file");
        command.stdout(File::create(output.path()).expect("a file"));
        let before = cpu_of_children();
        let mut child = command.stderr(Stdio::null()).spawn().expect("it runs");
        let mut rss_kib = None;
        while child.try_wait().expect("a child").is_none() {
            rss_kib = peak_rss_kib(&child).or(rss_kib);
            thread::sleep(Duration::from_millis(20));
        }
        let cpu = cpu_of_children() - before;
        (fs::read_to_string(output.path()).expect("its output"), cpu, rss_kib)
    }
}

impl Taken {
    /// What it took more than a short run.
    fn beyond(self, short: Taken) -> Taken {
        Taken {
            attempts: self.attempts - short.attempts,
            window: self.window - short.window,
            cpu: self.cpu - short.cpu,
            rss_kib: self.rss_kib,
        }
    }

    fn rate(&self) -> f64 {
        self.attempts / self.window
    }

    fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / self.attempts
    }
}

fn report(name: &str, sessions: u64, pairs: &[[Taken; 2]]) {
    let side = |figure: fn(&Taken) -> f64, misses: &dyn Fn(f64) -> bool| {
        let of = |who: usize| median(pairs.iter().map(|p| figure(&p[who])));
        let mut ratios: Vec<f64> = pairs.iter().map(|p| figure(&p[1]) / figure(&p[0])).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = median(ratios.iter().copied());
        let (low, high) = interval(&ratios);
        let mark = if misses(ratio) { '*' } else { ' ' };
        (of(0), of(1), format!("{ratio:.2}{mark} ({low:.2} to {high:.2})"))
    };
    let (theirs, ours, rates) = side(Taken::rate, &|ratio| ratio < THROUGHPUT_AT_LEAST);
    let (their_cpu, our_cpu, cpus) = side(Taken::cpu_us, &|ratio| ratio > CPU_AT_MOST);
    println!("{name:11}{sessions:>8}   {theirs:>9.0}{ours:>9.0}  {rates:23}{their_cpu:>9.1}{our_cpu:>9.1}  {cpus}");
}

/// Of the median: the binomial distribution's normal approximation says between which of the ordered values it lies.
fn interval(ordered: &[f64]) -> (f64, f64) {
    let n = ordered.len() as f64;
    let below = (n / 2.0 - 0.98 * n.sqrt()).floor().max(0.0) as usize;
    (ordered[below], ordered[ordered.len() - 1 - below])
}

/// What another session costs, from the short runs.
fn report_memory(memory: &[(u64, [Option<f64>; 2])]) {
    let [(1, first), .., (many, last)] = memory else {
        return;
    };
    let a_session = |who: usize| Some((last[who]? - first[who]?) / (*many as f64 - 1.0));
    if let (Some(theirs), Some(ours)) = (a_session(0), a_session(1)) {
        println!(
            "memory a session, peak, 1 to {many}: pgbench {theirs:.1} KiB, db-race {ours:.1} KiB (at most {KIB_A_SESSION_AT_MOST} wanted)"
        );
    }
}

fn peak_rss_kib(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of all children that have ended, in seconds.
fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn number(output: &str, before: &str) -> f64 {
    let (_, rest) = output
        .split_once(before)
        .unwrap_or_else(|| panic!("no `{before}`: {output}"));
    let digits = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next();
    digits.and_then(|n| n.parse().ok()).expect("a number")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn file(text: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("a file");
    file
}

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

fn asked(setting: &str, name: &str) -> bool {
    std::env::var(setting).map_or(true, |list| list.split(',').any(|one| one == name))
}
