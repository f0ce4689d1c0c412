//! `db-race sweep`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use std::time::Duration;

use common::{Sandbox, wait_until};
use nix::sys::signal::Signal;

/// 16 clerks, each away for 60 ms after a report of 20 ms: four connections are always busy, and twelve are enough for all.
const CLERKS: &str = r#"
title = "Clerks and their reports"
[[sessions]]
name     = "clerk"
sessions = 16
think    = "60ms"
schedule = { kind = "constant", duration = "800ms" }
steps    = [{ name = "report", sql = "select pg_sleep(0.02)" }]
[expect]
"attempts.refused" = "== 0"
"#;

#[test]
fn the_knee_is_found_where_the_work_fits_into_the_pool() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write("clerks.toml", CLERKS);
    let command = format!("sweep {file} --url {} --pool 1,2,12,16 --repeat 2", server.url());
    let sweep = sandbox
        .run(&format!("{command} --seed 7 --format json"))
        .exits(0)
        .json();
    assert_eq!(
        (&sweep["schema"], &sweep["of"]),
        (&"db-race/sweep/1".into(), &"pool".into())
    );
    let points = sweep["points"].as_array().unwrap();
    let sizes: Vec<u64> = points.iter().map(|p| p["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [1, 2, 12, 16]);
    let rate = |i: usize, figure: &str| points[i]["per_second"][figure].as_f64().unwrap();
    for (i, point) in points.iter().enumerate() {
        assert_eq!(point["runs"], 2);
        assert!(rate(i, "min") <= rate(i, "median") && rate(i, "median") <= rate(i, "max"));
    }
    // a connection does 50 in a second, and 16 clerks ask for 200
    assert!(rate(0, "max") <= 51.0 && rate(1, "max") <= 102.0, "{points:#?}");
    assert!(rate(2, "median") > 1.3 * rate(1, "median"), "{points:#?}");
    assert_eq!(points[0]["causes"][0], "too_small");
    assert!(points[0]["wait_p95_ms"].as_f64() > points[3]["wait_p95_ms"].as_f64());
    let knee = &sweep["knee"];
    assert!([12, 16].contains(&knee["size"].as_u64().unwrap()), "{knee:#}");
    let again = sweep["reproduce"].as_str().unwrap();
    assert!(
        again.contains("--pool 1,2,12,16") && again.contains("--seed 7"),
        "{again}"
    );
    assert!(
        !again.contains("postgresql:"),
        "a connection string may hold a password: {again}"
    );

    sandbox.run(&command).exits(0).shows(&[
        "throughput by pool size, 2 runs each",
        "attempts/s",
        "██",
        "too small",
        "pool of 12",
    ]);
}

#[test]
fn sessions_are_swept_over_on_a_server_large_enough_for_the_most_of_them() {
    let sandbox = Sandbox::new();
    let sweep = sandbox
        .run("sweep how-many --sessions 2..130 --points 2 --pool 130 --repeat 1 --format json")
        .exits(0)
        .json();
    let points = sweep["points"].as_array().unwrap();
    assert_eq!(
        points.iter().map(|p| p["size"].as_u64().unwrap()).collect::<Vec<_>>(),
        [2, 130]
    );
    assert_eq!(sweep["of"], "sessions");
    assert_eq!(sweep["server"]["throwaway"], true);
}

#[test]
fn an_interrupted_sweep_shows_what_was_measured() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write("clerks.toml", CLERKS);
    let running = sandbox.start(&format!("sweep {file} --url {} --pool 1,9 --repeat 50", server.url()));
    // with nine connections the run of one is over
    let sessions = "(select count(*) from pg_stat_activity where application_name = 'db-race/session') = 9";
    wait_until("the second size is run", Duration::from_secs(30), || {
        server.is(sessions)
    });
    running.signal(Signal::SIGINT);
    running
        .wait()
        .exits(130)
        .shows(&["interrupted after", "of 100 runs", "no knee: fewer than two sizes"]);
}

#[test]
fn what_cannot_be_swept_is_refused() {
    let sandbox = Sandbox::new();
    for (words, part) in [
        ("sweep how-many", "several sizes of one thing"),
        ("sweep how-many --pool 5", "several sizes of one thing"),
        (
            "sweep how-many --pool 1..5 --sessions 1..5",
            "several sizes of one thing",
        ),
        ("sweep how-many --pool 9..5", "5..100"),
        ("sweep how-many --sessions clrk=1..5", "did you mean `clerk`?"),
    ] {
        sandbox.run(words).exits(64).complains(&[part]);
    }
    let server = sandbox.server();
    let file = sandbox.write("clerks.toml", CLERKS);
    sandbox
        .run(&format!("sweep {file} --url {} --pool 5000,6000", server.url()))
        .exits(69)
        .complains(&["connections free"]);
}
