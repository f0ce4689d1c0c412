//! Every bundled bug is found, and every scenario passes without one, 20 times of 20.
//!
//! Prints a row each; ends with an error when a row isn't full. Of all rows it takes some 15 minutes: `MATRIX_ONLY` names a part
//! of those that are wanted, `MATRIX_RUNS` says how often each is run.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::Value;

fn main() -> ExitCode {
    let only = std::env::var("MATRIX_ONLY").unwrap_or_default();
    let runs: usize = match std::env::var("MATRIX_RUNS") {
        Ok(runs) => runs.parse().ok().filter(|n| *n > 0).expect("MATRIX_RUNS is a number"),
        Err(_) => 20,
    };
    let (_, list) = db_race(&["list"]);
    let text = |item: &Value, field: &str| item[field].as_str().expect("a string").to_string();
    let mut full = true;
    println!("{:45} {:>7}  {:>6}  breaks", "db-race contend", "as due", "median");
    let mut row = |arguments: &[&str], breaks: &str, as_due: &dyn Fn(i32, &Value) -> bool| {
        if !arguments.join(" ").contains(&only) {
            return;
        }
        let mut good = 0;
        let mut times = Vec::new();
        for _ in 0..runs {
            let started = Instant::now();
            let words: Vec<&str> = ["contend"].iter().chain(arguments).copied().collect();
            let (code, report) = db_race(&words);
            times.push(started.elapsed());
            good += usize::from(as_due(code, &report));
        }
        times.sort();
        let median = times[runs / 2].as_secs_f64();
        println!("{:45} {good:>3}/{runs}  {median:4.1} s  {breaks}", arguments.join(" "));
        full &= good == runs;
    };
    for scenario in list["scenarios"].as_array().expect("scenarios") {
        row(&[&text(scenario, "name")], "nothing", &|code, _| code == 0);
    }
    for bug in list["bugs"].as_array().expect("bugs") {
        let breaks = text(bug, "breaks");
        let shown = |code: i32, report: &Value| {
            let rules = report["verdict"]["rules"].as_array();
            let broken = |rule: &Value| {
                let name = rule["rule"].as_str().unwrap_or_default();
                let named = name.strip_prefix("check ").unwrap_or(name).split(' ').next();
                named == Some(&breaks) && rule["state"] == "broken"
            };
            code == 2 && rules.is_some_and(|rules| rules.iter().any(broken))
        };
        row(&[&text(bug, "scenario"), "--bug", &text(bug, "name")], &breaks, &shown);
    }
    let unlocked = ["last-room", "--bug", "unlocked-read", "--sessions", "2"];
    row(&unlocked, "hold.accepted", &|code, _| code == 2);
    match full {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn db_race(arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_db-race"))
        .args(arguments)
        .args(["--format", "json"])
        .output()
        .expect("db-race runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap_or(-1), report)
}
