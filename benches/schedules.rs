//! Whether schedules keep to their plan at 1,000 starts a second: the starts as the server saw them against the plan, in
//! windows of 100 ms, and how late they were handed out; and how many sessions a ramp has in the race over time.
//!
//! Ends with an error when one is off by more than 2%.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::process::{Command, ExitCode};

use db_race::postgres::server::{Options, Server};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// The share of the plan that a schedule may be off.
const OFF_MAX: f64 = 0.02;
const WINDOW: f64 = 0.1;
const STEP: &str = "steps = [{ name = \"note\", sql = \"insert into starts values (:session, clock_timestamp())\" }]";

struct Bench {
    runtime: Runtime,
    server: Server,
    client: Client,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options = Options {
        max_connections: 200,
        ..Options::default()
    };
    let server = runtime.block_on(Server::start(&options)).expect("a server");
    let (client, connection) = runtime
        .block_on(tokio_postgres::connect(&server.url(), NoTls))
        .expect("a connection");
    runtime.spawn(connection);
    runtime
        .block_on(client.batch_execute("create unlogged table starts (session int, at timestamptz)"))
        .expect("a table");
    let bench = Bench {
        runtime,
        server,
        client,
    };
    let kept = [
        bench.rate(
            "constant-rate, 1000/s for 10 s",
            "{ kind = \"constant-rate\", rate = \"1000/s\", duration = \"10s\" }",
            |t| 1_000.0 * t,
        ),
        bench.rate(
            "ramping-rate, 0 to 1000/s in 10 s",
            "{ kind = \"ramping-rate\", stages = [{ duration = \"10s\", target = \"1000/s\" }] }",
            |t| 50.0 * t * t,
        ),
        bench.ramping(),
    ];
    bench.runtime.block_on(bench.server.stop()).expect("a stop");
    match kept.iter().all(|kept| *kept) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Bench {
    /// Races a group, and gives its part of the report.
    fn race(&self, group: &str) -> Value {
        self.runtime
            .block_on(self.client.batch_execute("truncate starts"))
            .expect("a truncate");
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        let text = format!("title = \"t\"\n[[sessions]]\nname = \"a\"\n{group}\n{STEP}\n");
        std::fs::write(file.path(), text).expect("a scenario");
        let output = Command::new(env!("CARGO_BIN_EXE_db-race"))
            .arg("contend")
            .arg(file.path())
            .args(["--no-control", "--format", "json", "--url", &self.server.url()])
            .output()
            .expect("db-race runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        report["race"]["group_results"][0].clone()
    }

    fn rows(&self, sql: &str) -> Vec<(f64, f64)> {
        let rows = self.runtime.block_on(self.client.query(sql, &[])).expect("rows");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// A rate, given how many starts are planned until a time: whether it was kept.
    fn rate(&self, name: &str, schedule: &str, planned: impl Fn(f64) -> f64) -> bool {
        let group = self.race(&format!("sessions = 100\nschedule = {schedule}"));
        // the first start is due at 0 where the rate is level; where it begins with nothing, that is no different
        let starts =
            self.rows("select extract(epoch from at - min(at) over ())::float8, 0::float8 from starts order by at");
        let all = planned(10.0);
        let made = starts.len() as f64;
        let off = (made - all).abs() / all;
        let windows = (1..=100).map(|n| {
            let until = f64::from(n) * WINDOW;
            let seen = starts.iter().filter(|(at, _)| *at < until).count() as f64;
            // what is late in one window is early in the next: how far behind or ahead of the plan, at any time
            (seen - planned(until)).abs()
        });
        let furthest = windows.fold(0.0, f64::max);
        println!("{name}");
        println!(
            "  {made} of {all} starts made ({:.2}% off), {} dropped",
            off * 100.0,
            group["dropped"]
        );
        println!(
            "  never more than {furthest:.0} starts off the plan, looked at every 100 ms ({:.2}%)",
            furthest / all * 100.0
        );
        println!(
            "  handed out late by: med {} ms, p99 {} ms, max {} ms",
            group["lag"]["med_ms"], group["lag"]["p99_ms"], group["lag"]["max_ms"]
        );
        off <= OFF_MAX && furthest / all <= OFF_MAX
    }

    /// Sessions that come and go, ten starts a second each.
    fn ramping(&self) -> bool {
        self.race(
            "think = \"100ms\"\nschedule = { kind = \"ramping\", start = 0, stages = [\n\
             { duration = \"4s\", target = 100 }, { duration = \"2s\", target = 100 }, { duration = \"4s\", target = 0 }] }",
        );
        // session 1 comes at 0.04 s: when the level, 25 t, is 1
        let sessions = self.rows(
            "select extract(epoch from min(at) - min(min(at)) over ())::float8 + 0.04,
                    extract(epoch from max(at) - min(min(at)) over ())::float8 + 0.04
             from starts group by session",
        );
        let level = |t: f64| (25.0 * t).min(100.0).min(25.0 * (10.0 - t)).floor();
        let mut offs = Vec::new();
        for n in 0..100 {
            let t = f64::from(n) * WINDOW + WINDOW / 2.0;
            // a session is there until it would have begun again
            let there = sessions
                .iter()
                .filter(|(came, last)| *came <= t && t < *last + 0.1)
                .count();
            offs.push((there as f64 - level(t)).abs());
        }
        let furthest = offs.iter().copied().fold(0.0, f64::max);
        let mean = offs.iter().sum::<f64>() / offs.len() as f64;
        println!("ramping, 0 to 100 to 0 sessions in 10 s, 10 starts a second each");
        println!(
            "  {} sessions came; off the plan by {mean:.2} sessions on average, {furthest} at the most",
            sessions.len()
        );
        sessions.len() == 100 && mean / 100.0 <= OFF_MAX
    }
}
