//! What the watcher costs: throughput of the same run with it and without it, in turns. Wanted: at most 2% less.
//!
//! `BENCH_RUNS` pairs (default 15) of two seconds each, with 16 sessions on one row, and on rows of their own.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::path::Path;
use std::process::Command;

use db_race::postgres::server::{Options, Server};
use serde_json::Value;
use tokio_postgres::NoTls;

const SCENARIO: &str = r#"
title = "The watcher's cost"
[[sessions]]
name     = "client"
sessions = 16
schedule = { kind = "constant", duration = "2s" }
steps    = [{ name = "update", sql = "update counter set n = n + 1 where id = ROW" }]
"#;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(Server::start(&Options::default())).expect("a server");
    let (client, connection) = runtime
        .block_on(tokio_postgres::connect(&server.url(), NoTls))
        .expect("a connection");
    runtime.spawn(connection);
    let pairs = std::env::var("BENCH_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(15);
    println!("attempts/s with the watcher / without it, {pairs} pairs\n");
    for (name, row) in [("one row", "1"), ("a row each", ":session")] {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        std::fs::write(file.path(), SCENARIO.replace("ROW", row)).expect("a scenario");
        let mut ratios = Vec::new();
        let mut without = Vec::new();
        for pair in 0..pairs {
            // the table is as new for each pair, and each of the two goes first every other time
            let fresh =
                "drop table if exists counter; create table counter (id int primary key, n int) with (fillfactor = 10);
                         insert into counter select id, 0 from generate_series(1, 16) id; checkpoint";
            runtime.block_on(client.batch_execute(fresh)).expect("a table");
            let order = if pair % 2 == 0 { [true, false] } else { [false, true] };
            let mut rates = [0.0; 2];
            for watched in order {
                rates[usize::from(watched)] = rate(&server.url(), file.path(), watched);
            }
            ratios.push(rates[1] / rates[0]);
            without.push(rates[0]);
        }
        ratios.sort_by(f64::total_cmp);
        without.sort_by(f64::total_cmp);
        let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
        println!(
            "{name:<12} {:.3} (middle half {low:.3} to {high:.3}, all {:.3} to {:.3}), at {:.0}/s",
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
            without[without.len() / 2],
        );
    }
    runtime.block_on(server.stop()).expect("a stop");
}

fn rate(url: &str, scenario: &Path, watched: bool) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_db-race"));
    command.arg("contend").arg(scenario).args(["--url", url]);
    command.args(["--no-control", "--quiet", "--format", "json"]);
    if !watched {
        command.arg("--no-watch");
    }
    let output = command.output().expect("a run");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["race"]["group_results"][0]["per_second"]
        .as_f64()
        .expect("a rate")
}
