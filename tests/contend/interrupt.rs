//! A run that is stopped by its user.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::list;
use super::places::wait_for_sessions;
use crate::common::processes::postgres_in;
use crate::common::{Sandbox, connect_to_run, wait_for, wait_until};

#[test]
fn ctrl_c_ends_a_run_with_a_report_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let run = sandbox.start("contend last-room --rounds 10000 --format json");
    let server = wait_for("the server", Duration::from_secs(30), || {
        connect_to_run(sandbox.run_dirs().first()?)
    });
    wait_for_sessions(&server, &run, 50);
    // one session after another: in the control they don't wait for one another, but for an aborted one at times
    let waiting = "(select count(*) from pg_stat_activity where wait_event_type = 'Lock')";
    wait_until("the race", Duration::from_secs(30), || {
        server.is(&format!("{waiting} >= 5"))
    });
    assert!(
        !postgres_in(&sandbox.temp_dir()).is_empty(),
        "the premise of what is asserted below"
    );
    run.signal(Signal::SIGINT);
    let run = run.wait_at_most(Duration::from_secs(20)).exits(130);
    let report = run.json();
    assert_eq!(report["verdict"]["outcome"], "interrupted");
    assert_eq!(report["race"]["cut_short"], "interrupted");
    let rounds = list(&report["race"]["rounds"]).len();
    assert!((1..10_000).contains(&rounds), "{rounds} rounds");
    sandbox.assert_nothing_left();
}

#[test]
fn a_bug_that_was_seen_before_ctrl_c_is_reported() {
    let sandbox = Sandbox::new();
    let run = sandbox.start("contend last-room --bug unlocked-read --rounds 10000 --sessions 5 --format json");
    let server = wait_for("the server", Duration::from_secs(30), || {
        connect_to_run(sandbox.run_dirs().first()?)
    });
    wait_for_sessions(&server, &run, 5);
    // the checks come after a round
    let overbooked = "exists (select from room_inventory where tentative_count > allotment)";
    wait_until("a round with the bug in it", Duration::from_secs(30), || {
        server.is(overbooked)
    });
    run.signal(Signal::SIGINT);
    let report = run.wait_at_most(Duration::from_secs(20)).exits(130).json();
    assert_eq!(report["verdict"]["outcome"], "failed");
    assert_eq!(report["race"]["cut_short"], "interrupted");
    sandbox.assert_nothing_left();
}

/// What hangs, and where: the phases of a run before and in the race.
const HANGING: [(&str, &str); 5] = [
    ("in the setup", "setup = \"select pg_sleep(600)\"\nGROUP"),
    (
        "in the keys query",
        "[keys]\nsql = \"select pg_sleep(600)::text as k\"\nGROUP",
    ),
    ("in the dry call", "GROUP\ngate = \"write\""),
    ("in the control", "GROUP\ngate = \"start\""),
    ("in the race", "GROUP\ngate = \"start\""),
];

#[test]
fn statements_in_flight_are_cancelled_on_the_server_in_every_phase() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for (phase, text) in HANGING {
        let group = "[[sessions]]\nname = \"a\"\nsessions = 3\n\
                     steps = [{ name = \"nap\", sql = \"select pg_sleep(600)\", timeout = \"10m\" }]";
        let file = sandbox.write(
            "long.toml",
            &format!("title = \"t\"\n{}\n", text.replace("GROUP", group)),
        );
        let flags = if phase == "in the race" { "--no-control" } else { "" };
        let run = sandbox.start(&format!("contend {file} --url {} {flags}", server.url()));
        let napping = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep')";
        let expected = if phase == "in the race" { 3 } else { 1 };
        wait_until(phase, Duration::from_secs(30), || {
            server.is(&format!("{napping} = {expected}"))
        });
        let began = Instant::now();
        run.signal(Signal::SIGINT);
        run.wait_at_most(Duration::from_secs(30)).exits(130);
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{phase}: {:?}",
            began.elapsed()
        );
        assert!(server.is(&format!("{napping} = 0")), "{phase}: nobody sleeps on");
    }
}

#[test]
fn who_stops_a_run_before_it_has_begun_gets_it_stopped() {
    let sandbox = Sandbox::new();
    for after_ms in [0, 5, 50, 150, 300] {
        let run = sandbox.start("contend last-room --rounds 10000");
        // before its handlers are there a signal ends it; the run directory comes later
        wait_until("a run directory", Duration::from_secs(30), || {
            !sandbox.run_dirs().is_empty()
        });
        std::thread::sleep(Duration::from_millis(after_ms));
        run.signal(Signal::SIGINT);
        run.wait_at_most(Duration::from_secs(20)).exits(130);
        sandbox.assert_nothing_left();
    }
}
