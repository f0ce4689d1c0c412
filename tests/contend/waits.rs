//! What sessions wait for: connections of the pool, and locks of one another.

use std::time::Duration;

use super::{list, outcomes};
use crate::common::database::Database;
use crate::common::run::rule;
use crate::common::{Sandbox, wait_until};

#[test]
fn with_a_pool_smaller_than_the_sessions_one_still_wins_and_the_bug_is_still_caught() {
    let sandbox = Sandbox::new();
    let right = sandbox
        .run("contend last-room --pool 5 --rounds 1 --format json")
        .exits(0)
        .json();
    let pool = &right["race"]["pools"][0];
    assert_eq!(
        (&pool["size"], &pool["sessions"], &pool["timeouts"]),
        (&5.into(), &50.into(), &0.into())
    );
    assert_eq!(pool["wait"]["count"], 50, "every attempt's wait is measured");
    assert_eq!(
        outcomes(&right["race"]["attempts"]),
        [("accepted", 1), ("rejected", 49)]
    );
    assert_eq!(rule(&right, "hold.accepted")["state"], "held");
    let waves = list(&right["race"]["rounds"][0]["waves"]);
    assert!(
        waves.len() >= 10,
        "no wave has more sessions than there are connections: {waves:#?}"
    );

    let wrong = sandbox
        .run("contend last-room --bug unlocked-read --pool 5 --rounds 1 --format json")
        .exits(2)
        .json();
    assert_eq!(rule(&wrong, "hold.accepted")["state"], "broken");
    sandbox
        .run("contend last-room --pool 5 --rounds 1")
        .exits(0)
        .shows(&["Pool: 5 connections for 50 sessions"]);
}

const QUEUE: &str = r#"
title = "Three for one connection"
[pool]
size = 1
WAIT
[[sessions]]
name     = "a"
sessions = 3
gate     = "none"
steps    = [{ name = "nap", sql = "select pg_sleep(0.3)" }]
[expect]
"nap.latency" = "max < 20s"
EXPECT
"#;

#[test]
fn the_wait_for_a_connection_is_measured_apart_from_the_execution() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write(
        "queue.toml",
        &QUEUE
            .replace("WAIT", "")
            .replace("EXPECT", "\"pool.wait\" = \"max > 500ms\""),
    );
    let run = sandbox.run(&format!(
        "contend {file} --url {} --no-control --format json",
        server.url()
    ));
    // one at a time: nobody met anybody
    let report = run.exits(3).json();
    assert_eq!(rule(&report, "pool.wait")["state"], "held");
    let wait = |figure: &str| report["race"]["pools"][0]["wait"][figure].as_f64().unwrap();
    assert!(
        wait("max_ms") - wait("min_ms") >= 590.0,
        "the last one waits for two more than the first"
    );
    // the naps take 300 ms; the last one's with its wait would take longer than any wait
    let latency = report["race"]["steps"][0]["latency"]["max_ms"].as_f64().unwrap();
    assert!(
        (290.0..wait("max_ms")).contains(&latency),
        "{latency} ms for a nap of 300 ms: the wait is not part of it"
    );
}

#[test]
fn who_waits_too_long_for_a_connection_is_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = QUEUE
        .replace("WAIT", "wait = \"500ms\"")
        .replace("EXPECT", "\"pool.timeouts\" = \"== 0\"");
    let file = sandbox.write("queue.toml", &text.replace("0.3", "1.5"));
    let command = format!("contend {file} --url {} --no-control", server.url());
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 1), ("refused", 2)]);
    assert_eq!(report["race"]["pools"][0]["timeouts"], 2);
    let refused = &report["race"]["group_results"][0]["latency_by_outcome"]["refused"];
    assert!(
        refused["min_ms"].as_f64().unwrap() >= 490.0,
        "an attempt's latency has its wait in it: {refused}"
    );
    assert_eq!(rule(&report, "pool.timeouts")["state"], "broken");
    let reason = &report["race"]["reasons"][0];
    assert_eq!(
        (reason["outcome"].as_str(), reason["step"].as_str()),
        (Some("refused"), None)
    );
    assert!(reason["message"].as_str().unwrap().contains("500ms"), "{reason}");
    sandbox
        .run(&command)
        .exits(2)
        .shows(&["2 refused", "(pool)", "2 timed out"]);
}

#[test]
fn lock_waits_are_charged_to_the_table_and_to_who_held_the_lock() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table hot (id int primary key, n int); insert into hot values (1, 0);
         create function touch() returns void language plpgsql as $$
         begin
             update hot set n = n + 1 where id = 1;
             perform pg_sleep(0.6);
         end $$",
    );
    let file = sandbox.write(
        "hot.toml",
        r#"
        title = "A row that everybody wants, held for a while"
        [[sessions]]
        name     = "a"
        sessions = 3
        gate     = "start"
        steps    = [{ name = "touch", sql = "select touch()" }]
        [expect]
        lock_waits      = ">= 2"
        "touch.latency" = "max < 100ms"
        "#,
    );
    let command = format!("contend {file} --url {} --no-control", server.url());
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    assert_eq!(server.value("select n from hot"), "3");
    assert_eq!(rule(&report, "lock_waits")["state"], "held");
    assert_eq!(
        rule(&report, "touch.latency")["state"],
        "broken",
        "it took long because of the waits"
    );
    let all = list(&report["race"]["lock_waits"]);
    // who waits for a row that was changed meanwhile may show no table
    let waits = all
        .iter()
        .find(|waits| waits["relation"] == "hot")
        .expect("waits on the table");
    assert!(waits["waits"].as_u64().unwrap() >= 2, "{waits}");
    assert_eq!(waits["key"], "id = 1", "{waits}");
    let step = &report["race"]["steps"][0];
    let part = |name: &str| step[name].as_f64().unwrap();
    assert!(part("blocked_ms") >= 900.0, "{step}");
    assert!(part("running_ms") >= 1_800.0 * 0.9, "each sleeps for 0.6 s: {step}");
    // the second waits for one of them, the third for two: 1.8 s, of which what comes after the last sample is not seen
    let total: f64 = all.iter().map(|waits| waits["total_ms"].as_f64().unwrap()).sum();
    assert!(total >= 900.0, "{all:#?}");
    for holder in all.iter().flat_map(|waits| list(&waits["behind"])) {
        assert!(
            holder["who"].as_str().unwrap().starts_with("a ") && holder["doing"] == "in touch",
            "behind one of the sessions: {all:#?}"
        );
    }
    assert!(report["race"]["samples"].as_u64().unwrap() >= 10);
    sandbox
        .run(&command)
        .exits(2)
        .shows(&["lock waits on", "hot", "touch.latency max < 100ms"]);
}

#[test]
fn who_is_idle_in_a_transaction_while_others_wait_is_named() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table hot (id int primary key, n int); insert into hot values (1, 0), (2, 0)");
    let outsider = Database::connect(&server.url());
    outsider.exec("begin; select from hot where id = 2 for update");
    let file = sandbox.write(
        "hot.toml",
        r#"
        title = "A row that an idle transaction holds"
        [[sessions]]
        name     = "a"
        sessions = 3
        gate     = "none"
        steps    = [{ name = "touch", sql = "select n from hot where id = 2 for update" }]
        [expect]
        lock_waits = ">= 3"
        "#,
    );
    let command = format!(
        "contend {file} --url {} --no-control --rounds 1 --format json",
        server.url()
    );
    let run = sandbox.start(&command);
    let waiting =
        "select count(*) from pg_locks where not granted and waitstart < clock_timestamp() - interval '0.5 s'";
    wait_until("all three wait for a while", Duration::from_secs(60), || {
        server.value(waiting) == "3"
    });
    outsider.exec("commit");
    let report = run.wait().exits(0).json();
    let [waits] = list(&report["race"]["lock_waits"]) else {
        panic!("one lock: {}", report["race"]["lock_waits"])
    };
    assert_eq!(
        (&waits["relation"], &waits["key"], &waits["lock"]),
        (&"hot".into(), &"id = 2".into(), &"FOR UPDATE".into())
    );
    assert_eq!((&waits["waits"], &waits["longest_queue"]), (&3.into(), &3.into()));
    let total = waits["total_ms"].as_f64().unwrap();
    assert!(
        waits["idle_in_transaction_ms"].as_f64().unwrap() > total * 0.8,
        "{waits}"
    );
    let holder = &waits["behind"][0];
    assert!(holder["who"].as_str().unwrap().starts_with("process "), "{waits}");
    assert_eq!(holder["doing"], "idle in transaction", "{waits}");
}
