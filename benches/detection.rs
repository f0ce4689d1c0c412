//! How often the same bug shows, by how it is raced: pgbench and db-race on the same kind of server.
//!
//! The bug: the hotel's `unlocked-read`, one room, each client calls once. It shows when more than one hold was accepted.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

mod common;

use std::process::Command;

use db_race::place::Place;
use db_race::scenario::{self, Overrides};
use db_race::stop::Stop;
use serde_json::Value;

use common::pgbench;

const RUNS: usize = 20;
const CALL: &str = "select hold_id from create_booking_hold(1, array['2030-06-01']::date[], 1, :client_id);";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!(
        "{:55} runs of {RUNS} in which the bug shows",
        "last-room --bug unlocked-read"
    );
    let overrides = Overrides {
        bug: Some("unlocked-read".into()),
        ..Overrides::default()
    };
    let plan = scenario::load("last-room", &overrides).expect("a plan");
    let place = Place::of(&plan, None, &Default::default(), &Stop::default())
        .await
        .expect("a server");
    let server = place.server().expect("a throwaway server");
    let client = place.target.connect("bench").await.expect("a connection");
    let setup = &plan.setup.as_ref().expect("a setup").text;
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), CALL).expect("a script");
    for (clients, mode) in [("50", "simple"), ("50", "prepared"), ("2", "simple"), ("2", "prepared")] {
        let mut shows = 0;
        for _ in 0..RUNS {
            client.batch_execute(setup).await.expect("setup");
            // a client that is refused ends with an error, which is as it should be
            let url = server.url();
            let ran = pgbench(server.bin_dir())
                .args(["-n", "-c", clients, "-j", "2", "-t", "1", "-M", mode, "-f"])
                .arg(script.path())
                .arg(url)
                .output();
            ran.expect("pgbench runs");
            let row = client
                .query_one("select count(*) from booking_holds", &[])
                .await
                .expect("a count");
            let holds: i64 = row.get(0);
            assert!(holds > 0, "pgbench called nothing");
            shows += usize::from(holds > 1);
        }
        report(&format!("pgbench, {clients} clients x 1 call, -M {mode}"), shows);
    }
    place.leave().await.expect("an end");
    for (sessions, gate) in [("50", "none"), ("50", "start"), ("50", "write"), ("2", "write")] {
        let shows = (0..RUNS).filter(|_| db_race(sessions, gate)).count();
        report(&format!("db-race, {sessions} sessions, --gate {gate}, 1 round"), shows);
    }
}

fn report(how: &str, shows: usize) {
    println!("{how:55} {shows:>2}");
}

fn db_race(sessions: &str, gate: &str) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_db-race"))
        .args([
            "contend",
            "last-room",
            "--bug",
            "unlocked-read",
            "--rounds",
            "1",
            "--format",
            "json",
        ])
        .args(["--sessions", sessions, "--gate", gate])
        .output()
        .expect("db-race runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["race"]["attempts"]["accepted"].as_u64().expect("a count") > 1
}
