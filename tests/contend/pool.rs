//! Why a pool gives no connection: each cause has a bundled scenario that shows it, and the report names it and no other.

use serde_json::Value;

use super::list;
use crate::common::Sandbox;
use crate::common::run::Run;

/// Runs a bundled scenario; its one cause, and the text report of the same run's kind.
#[track_caller]
fn shows_one_cause(scenario: &str, cause: &str, parts: &[&str]) -> Value {
    let sandbox = Sandbox::new();
    let command = format!("contend pool/{scenario}");
    let report = sandbox.run(&format!("{command} --format json")).exits(0).json();
    let pool = report["race"]["pools"][0].clone();
    let causes = list(&pool["causes"]);
    let names: Vec<&str> = causes.iter().map(|c| c["cause"].as_str().unwrap()).collect();
    assert_eq!(names, [cause], "{causes:#?}\n{}", pool["wait"]);
    for other in &list(&report["race"]["pools"])[1..] {
        assert_eq!(list(&other["causes"]), &[] as &[Value], "{other:#}");
    }
    let text = causes[0]["text"].as_str().unwrap();
    let run: Run = sandbox.run(&command).exits(0).shows(&["Pool: "]);
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
        assert!(run.stdout.contains(part), "`{part}` is not on stdout\n{run}");
    }
    over_time(&pool);
    pool
}

/// The pool's usage is within its bounds, in order, and not too long to draw.
#[track_caller]
fn over_time(pool: &Value) {
    let usage = list(&pool["usage"]);
    assert!((10..=200).contains(&usage.len()), "{} points", usage.len());
    let at: Vec<f64> = usage.iter().map(|p| p["at_ms"].as_f64().unwrap()).collect();
    assert!(at.is_sorted(), "{at:?}");
    for point in usage {
        assert!(point["in_use"].as_u64() <= pool["size"].as_u64(), "{point}");
        assert!(point["waiting"].as_u64() <= pool["sessions"].as_u64(), "{point}");
    }
}

fn share(pool: &Value) -> f64 {
    pool["causes"][0]["share"].as_f64().unwrap()
}

#[test]
fn a_convoy_behind_one_lock_and_who_holds_it() {
    let parts = [
        "convoy behind a lock",
        "on room_inventory",
        "held by guest before `charge`, idle in transaction",
        "longest by guest ",
    ];
    let pool = shows_one_cause("convoy", "convoy", &parts);
    // seven of eight stand in the queue, and the eighth has the lock
    assert!((70.0..=95.0).contains(&share(&pool)), "{pool:#}");
    assert!(pool["timeouts"].as_u64().unwrap() > 0 && pool["dry_ms"].as_f64().unwrap() > 500.0);
}

#[test]
fn connections_held_while_idle_in_transaction() {
    let parts = [
        "held while idle in transaction",
        "mostly of guest before `charge`",
        "a second all are in use",
        "without the idle time",
        "of 4 would do",
    ];
    let pool = shows_one_cause("idle-in-transaction", "idle_in_transaction", &parts);
    assert!(share(&pool) > 60.0, "{pool:#}");
}

#[test]
fn connections_that_leak() {
    let pool = shows_one_cause(
        "leak",
        "leaked",
        &["4 of 4 connections", "given up by their sessions (guest)"],
    );
    assert!(share(&pool) > 80.0, "{pool:#}");
    let last = list(&pool["usage"]).last().unwrap();
    assert_eq!(last["in_use"], 4, "they are never given back: {pool:#}");
}

#[test]
fn a_pool_that_is_too_small_for_the_rate_and_what_littles_law_asks_for() {
    let parts = [
        "too small for the rate",
        "4 connections are held for",
        "at 150 attempts a second that needs",
    ];
    let pool = shows_one_cause("too-small", "too_small", &parts);
    let text = pool["causes"][0]["text"].as_str().unwrap();
    let (_, needs) = text.split_once("that needs ").unwrap();
    let needs: u32 = needs.split('.').next().unwrap().parse().unwrap();
    // 150 a second for 40 ms each; on a busy machine they take longer
    let (_, held) = text.split_once("held for ").unwrap();
    let held: f64 = held.split(' ').next().unwrap().parse().unwrap();
    // the time on loan is sampled
    assert!(held >= 36.0 && needs >= 6, "{text}");
    assert!((0.15 * held - f64::from(needs)).abs() <= 1.0, "Little's law: {text}");
}

#[test]
fn a_server_that_is_full() {
    let parts = ["server full", "53300", "too many clients", "wanted to grow to 110"];
    let pool = shows_one_cause("server-full", "server_full", &parts);
    assert_eq!(pool["causes"][0]["share"], Value::Null);
    assert!(pool["server_full"].as_u64().unwrap() > 0);
    assert_eq!((&pool["timeouts"], &pool["create_timeouts"]), (&0.into(), &0.into()));
}

#[test]
fn logins_that_take_too_long() {
    let parts = ["connect trouble", "not ready within the pool's create limit of 200ms"];
    let pool = shows_one_cause("slow-connect", "connect_trouble", &parts);
    assert!(pool["create_timeouts"].as_u64().unwrap() > 0);
    assert_eq!((&pool["timeouts"], &pool["server_full"]), (&0.into(), &0.into()));
}

#[test]
fn a_pool_that_deadlocks_with_itself() {
    let parts = [
        "nested acquire",
        "(guest in `log`)",
        "the limit of 300ms",
        "8 of them need 9",
    ];
    let pool = shows_one_cause("nested-acquire", "nested_acquire", &parts);
    assert!(pool["nested_timeouts"].as_u64().unwrap() > 0);
    // with one more connection than sessions that ask twice, somebody can always go on
    let sandbox = Sandbox::new();
    let command = "contend pool/nested-acquire --pool 9 --format json";
    let healed = sandbox.run(command).exits(2).json();
    let pool = &healed["race"]["pools"][0];
    assert_eq!(pool["timeouts"], 0, "{pool:#}");
    assert!(
        list(&pool["causes"]).iter().all(|c| c["cause"] != "nested_acquire"),
        "{pool:#}"
    );
}

const HELD: &str = r#"
title = "Clerks who read with the connection in hand"
[pool]
size = 2
wait = "100ms"
[[sessions]]
name     = "clerk"
sessions = 8
think    = "60ms"
hold     = true
schedule = { kind = "constant", duration = "1s" }
steps    = [{ name = "look", sql = "select 1" }]
[expect]
"pool.timeouts" = "== 0"
"#;

#[test]
fn connections_that_are_held_idle_and_a_pool_that_is_large_enough() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write("held.toml", HELD);
    let command = format!("contend {file} --url {}", server.url());
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    let pool = &report["race"]["pools"][0];
    let causes = list(&pool["causes"]);
    assert_eq!(causes.len(), 1, "{causes:#?}");
    assert_eq!(causes[0]["cause"], "held_idle");
    sandbox
        .run(&command)
        .exits(2)
        .shows(&["FAILED", "held while idle", "mostly of clerk", "in use", "waiting"]);

    let report = sandbox.run(&format!("{command} --pool 8 --format json")).json();
    let pool = &report["race"]["pools"][0];
    assert_eq!(list(&pool["causes"]), &[] as &[Value], "{pool:#}");
    assert_eq!((&pool["timeouts"], &pool["dry_ms"]), (&0.into(), &0.0.into()));
}

#[test]
fn what_a_gate_holds_is_not_blamed_on_the_pool() {
    let sandbox = Sandbox::new();
    let report = sandbox.run("contend last-room --pool 5 --format json").exits(0).json();
    let pool = &report["race"]["pools"][0];
    assert_eq!(list(&pool["causes"]), &[] as &[Value], "{pool:#}");
}
