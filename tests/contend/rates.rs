//! Starts at a rate: made when they are due, or dropped; and latency that counts from when they were due.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{count, group, number, outcomes, race, server_with_work, start};
use crate::common::database::Database;
use crate::common::{Sandbox, TestServer, wait_until};

/// Of 100 starts in two seconds, so many were made by each moment as the plan has it, give or take what a start was late: no more
/// than the slowest attempt took since it was due.
#[track_caller]
fn on_plan(server: &TestServer, report: &Value, planned: impl Fn(f64) -> f64) {
    let late = number(&group(report, "a")["latency"]["max_ms"]) / 1e3;
    let rows = server.rows(
        "with at as (select extract(epoch from began - min(began) over ())::float as t from done)
         select (select count(*) from at where t < n * 0.2) from generate_series(1, 9) as n order by n",
    );
    let made: Vec<f64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    for (made_by, n) in made.iter().zip(1..) {
        let t = f64::from(n) * 0.2;
        let (least, most) = (planned((t - late).max(0.0)) - 1.0, planned(t + late) + 1.0);
        assert!(
            (least..=most).contains(made_by),
            "by {t:.1} s: {made:?}, {late} s late at the most"
        );
    }
}

#[test]
fn starts_at_a_constant_rate_are_evenly_spaced() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 40
        schedule = { kind = "constant-rate", rate = "50/s", duration = "2s" }
        steps    = [{ name = "work", sql = "select work(:session, 0.03)" }]
        [expect]
        dropped = "== 0"
        "#,
    )
    .exits(0)
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 100)]);
    assert_eq!(report["race"]["groups"][0]["attempts"], 100, "as planned");
    assert_eq!(report["race"]["groups"][0]["schedule"], "constant-rate");
    on_plan(&server, &report, |t| 50.0 * t);
    let lag = &group(&report, "a")["lag"];
    assert_eq!(lag["count"], 100);
    assert!(number(&lag["med_ms"]) < 50.0, "{lag}");
}

#[test]
fn starts_at_a_ramping_rate_become_more() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 40
        schedule = { kind = "ramping-rate", start = "0/s", stages = [{ duration = "2s", target = "100/s" }] }
        steps    = [{ name = "work", sql = "select work(:session, 0.01)" }]
        "#,
    )
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 100)]);
    // the integral of the rate
    on_plan(&server, &report, |t| 25.0 * t * t);
}

#[test]
fn a_start_that_finds_no_free_session_is_dropped_and_never_made_up() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        schedule = { kind = "constant-rate", rate = "100/s", duration = "1s" }
        steps    = [{ name = "work", sql = "select work(:session, 0.2)" }]
        [expect]
        dropped = "<= 10/s"
        "#,
    )
    .exits(2)
    .json();
    let (made, dropped) = (
        count(&report["race"]["attempts"]["accepted"]),
        count(&group(&report, "a")["dropped"]),
    );
    assert_eq!(made + dropped, 100);
    assert!((4..=10).contains(&made), "{made}");
    assert_eq!(
        group(&report, "a")["latency"]["count"],
        made,
        "a dropped one has no latency"
    );
    assert!(
        server.is("(select max(began) - min(began) from done) < interval '1s'"),
        "none is made later"
    );
}

/// A race of three seconds during which another session locks the table for one.
fn stalled(schedule: &str) -> Value {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let run = start(
        &sandbox,
        &server,
        &format!(
            "[[sessions]]\nname = \"a\"\n{schedule}\nsteps = [{{ name = \"work\", sql = \"select work(:session, 0)\" }}]\n"
        ),
    );
    wait_until("it goes well for a while", Duration::from_secs(30), || {
        server.is("(select count(*) from done) >= 20")
    });
    let other = Database::connect(&server.url());
    other.exec("begin; lock table done in access exclusive mode");
    thread::sleep(Duration::from_secs(1));
    other.exec("commit");
    run.wait().json()
}

#[test]
fn a_stalled_server_shows_in_latency_and_not_as_fewer_samples() {
    let open = stalled("sessions = 90\nschedule = { kind = \"constant-rate\", rate = \"50/s\", duration = \"3s\" }");
    assert_eq!(
        outcomes(&open["race"]["attempts"]),
        [("accepted", 150)],
        "all that were planned"
    );
    let latency = &group(&open, "a")["latency"];
    assert!(number(&latency["max_ms"]) >= 900.0, "{latency}");
    assert!(number(&latency["p95_ms"]) >= 500.0, "a third of them waited: {latency}");

    // sessions that wait for one another's answers make no attempts meanwhile: the premise of the test
    let closed = stalled("sessions = 1\nthink = \"10ms\"\nschedule = { kind = \"constant\", duration = \"3s\" }");
    let latency = &group(&closed, "a")["latency"];
    assert!(number(&latency["max_ms"]) >= 900.0, "{latency}");
    assert!(number(&latency["p95_ms"]) < 500.0, "one of many: {latency}");
}

#[test]
fn under_a_rate_the_wait_for_a_connection_counts_too() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [pool]
        size = 1
        [[sessions]]
        name     = "a"
        sessions = 20
        schedule = { kind = "constant-rate", rate = "20/s", duration = "500ms" }
        steps    = [{ name = "work", sql = "select work(:session, 0.2)" }]
        [expect]
        "a.latency" = "max > 1s"
        "work.latency" = "max < 900ms"
        "#,
    )
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 10)]);
    let rules = &report["verdict"]["rules"];
    assert!((0..2).all(|i| rules[i]["state"] == "held"), "{rules:#}");
}

#[test]
fn what_holds_up_the_driver_itself_shows_in_latency_too() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let run = start(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 90
        schedule = { kind = "constant-rate", rate = "50/s", duration = "2s" }
        steps    = [{ name = "work", sql = "select work(:session, 0)" }]
        "#,
    );
    wait_until("it goes well for a while", Duration::from_secs(30), || {
        server.is("(select count(*) from done) >= 10")
    });
    run.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(800));
    run.signal(Signal::SIGCONT);
    let report = run.wait().json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 100)],
        "none is lost"
    );
    let group = group(&report, "a");
    assert!(
        number(&group["latency"]["max_ms"]) >= 700.0,
        "from when they were due: {group:#}"
    );
    assert!(number(&group["lag"]["max_ms"]) >= 700.0, "{group:#}");
}

#[test]
fn the_first_starts_find_their_sessions_there() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    for start in ["0s", "100ms"] {
        let report = race(
            &sandbox,
            &server,
            &format!(
                r#"
                rounds = 10
                [[sessions]]
                name     = "a"
                sessions = 60
                start    = "{start}"
                schedule = {{ kind = "constant-rate", rate = "200/s", duration = "100ms" }}
                steps    = [{{ name = "work", sql = "select work(:session, 0.02)" }}]
                [expect]
                dropped = "== 0"
                "#
            ),
        )
        .exits(0)
        .json();
        assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 200)], "{start}");
    }
}
