//! Failed attempts that are tried again, as applications do it.

use serde_json::Value;

use super::{count, group, number, outcomes, race, step};
use crate::common::run::rule;
use crate::common::{Sandbox, TestServer};

/// A server whose `fail(n, sqlstate)` fails the first `n` calls. A sequence remembers over rollbacks.
fn server(sandbox: &Sandbox) -> TestServer {
    let server = sandbox.server();
    server.exec(
        "create sequence calls;
         create table t (session int);
         create function fail(p_times int, p_sqlstate text) returns void language plpgsql as $$
         begin
             perform pg_sleep(0.02);
             if nextval('calls') <= p_times then
                 raise exception 'not now' using errcode = p_sqlstate;
             end if;
         end $$",
    );
    server
}

/// One session's attempt: it writes, and then fails for a while.
fn one(retry: &str, times: u32, sqlstate: &str, reject: &str) -> String {
    format!(
        "[[sessions]]\nname = \"a\"\nsessions = 1\ngate = \"none\"\ntransaction = true\nretry = {retry}\nsteps = [\n\
         {{ name = \"write\", sql = \"insert into t values (:session)\" }},\n\
         {{ name = \"act\", sql = \"select fail({times}, '{sqlstate}')\", reject = [{reject}] }}]\n"
    )
}

fn race_one(retry: &str, times: u32, sqlstate: &str, reject: &str) -> (Value, String) {
    let sandbox = Sandbox::new();
    let server = server(&sandbox);
    let report = race(&sandbox, &server, &one(retry, times, sqlstate, reject)).json();
    (report, server.value("select count(*) from t"))
}

#[test]
fn a_conflict_is_tried_again_until_it_is_accepted() {
    let (report, stored) = race_one("{}", 2, "40001", "");
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 1)]);
    assert_eq!(
        outcomes(&step(&report, "act")["outcomes"]),
        [("accepted", 1), ("conflict", 2)]
    );
    let group = group(&report, "a");
    assert_eq!(group["tries"], 3);
    assert_eq!(group["accepted_at"], serde_json::json!([0, 0, 1]));
    assert_eq!(number(&group["amplification"]), 3.0);
    let wasted = number(&group["wasted_ms"]);
    assert!((40.0..10_000.0).contains(&wasted), "two tries of 20 ms: {wasted}");
    assert!(
        number(&group["latency"]["min_ms"]) >= 60.0,
        "all tries are the attempt's"
    );
    assert_eq!(report["race"]["rounds"][0]["retries"], 2);
    assert_eq!(stored, "1", "failed tries leave nothing");
}

#[test]
fn who_has_tried_often_enough_gives_up() {
    let (report, stored) = race_one("{ times = 2 }", 1000, "40P01", "");
    assert_eq!(outcomes(&report["race"]["attempts"]), [("conflict", 1)]);
    assert_eq!(group(&report, "a")["tries"], 3);
    assert_eq!(group(&report, "a")["starved"], 1);
    assert_eq!(group(&report, "a")["amplification"], Value::Null);
    assert_eq!(stored, "0");
}

#[test]
fn no_retry_begins_when_the_budget_is_spent() {
    let (report, _) = race_one(
        "{ times = 1000000, backoff = \"0s\", budget = \"300ms\" }",
        1_000_000,
        "40001",
        "",
    );
    assert_eq!(outcomes(&report["race"]["attempts"]), [("conflict", 1)]);
    let tries = count(&group(&report, "a")["tries"]);
    assert!((2..=15).contains(&tries), "20 ms each: {tries}");
    let latency = number(&group(&report, "a")["latency"]["max_ms"]);
    assert!(latency < 5_000.0, "{latency}");
}

#[test]
fn only_those_sqlstates_are_tried_again_that_the_scenario_names() {
    let tries = |retry: &str, sqlstate: &str, reject: &str| {
        let (report, _) = race_one(retry, 1, sqlstate, reject);
        count(&group(&report, "a")["tries"])
    };
    assert_eq!(tries("{}", "HT009", ""), 1);
    assert_eq!(tries("{ on = [\"HT009\"] }", "HT009", ""), 2);
    assert_eq!(tries("{ on = [\"HT009\"] }", "40001", ""), 1);
    // what is refused for good is not asked for again
    assert_eq!(tries("{ on = [\"HT009\"] }", "HT009", "{ sqlstate = \"HT009\" }"), 1);
}

#[test]
fn sessions_that_the_gate_made_collide_come_through_by_retrying() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int, n int); insert into t values (1, 0)");
    for transaction in [
        "{ isolation = \"repeatable-read\" }",
        "{ isolation = \"serializable\" }",
    ] {
        server.exec("update t set n = 0");
        let report = race(
            &sandbox,
            &server,
            &format!(
                r#"
                [[sessions]]
                name        = "a"
                sessions    = 5
                transaction = {transaction}
                retry       = {{ times = 20 }}
                steps       = [{{ name = "add", sql = "update t set n = n + 1 where id = 1" }}]
                [expect]
                "a.accepted" = "== 5"
                retries      = ">= 4"
                "a.conflict" = "rate <= 0%"
                "#
            ),
        )
        .exits(0)
        .json();
        assert_eq!(server.value("select n from t"), "5");
        assert_eq!(rule(&report, "a.conflict")["measured"], "0.00% (0 of 5)");
        let group = group(&report, "a");
        let at: u64 = group["accepted_at"].as_array().unwrap().iter().map(count).sum();
        assert_eq!(at, 5);
        assert!(number(&group["amplification"]) >= 1.8, "{group:#}");
    }
}
