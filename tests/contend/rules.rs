//! Rules about shares, rates, groups and keys; rules that end a run; and what the server says of an error, whole.

use super::{count, number, outcomes, race};
use crate::common::Sandbox;
use crate::common::run::rule;

const BAD: &str = r#"
    [[sessions]]
    name     = "a"
    sessions = 2
    schedule = { kind = "constant", duration = "60s" }
    steps    = [{ name = "act", sql = "select 1 / (:iteration::int - 5) from pg_sleep(0.02)" }]
    [expect]
"#;

#[test]
fn a_rule_may_end_a_run_that_cannot_hold_any_more() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = format!("{BAD}\"attempts.error\" = {{ must = \"<= 1\", abort = true }}\n");
    let report = race(&sandbox, &server, &text).exits(2).json();
    assert_eq!(report["verdict"]["outcome"], "failed");
    assert_eq!(rule(&report, "attempts.error")["state"], "broken");
    let why = report["race"]["cut_short"].as_str().unwrap();
    assert!(why.contains("attempts.error <= 1"), "{why}");
    assert!(number(&report["race"]["rounds"][0]["duration_ms"]) < 30_000.0);

    let file = sandbox.write("text.toml", &format!("title = \"t\"\nrounds = 3\n{text}"));
    let shown = sandbox
        .run(&format!("contend {file} --url {} --no-control", server.url()))
        .exits(2);
    shown.shows(&["FAILED", "attempts.error <= 1", "aborted by the rule"]);
}

#[test]
fn a_rule_that_ends_a_run_gives_it_time_first() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = format!("{BAD}\"attempts.error\" = {{ must = \"== 0\", abort = true, grace = \"1500ms\" }}\n");
    let report = race(&sandbox, &server, &text).exits(2).json();
    let took = number(&report["race"]["rounds"][0]["duration_ms"]);
    assert!((1_500.0..30_000.0).contains(&took), "{took}");

    let short = text.replace("60s", "500ms");
    let report = race(&sandbox, &server, &short).exits(2).json();
    assert_eq!(
        report["race"]["cut_short"],
        serde_json::Value::Null,
        "it was over before"
    );
}

#[test]
fn a_rule_about_a_time_may_end_a_run_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = BAD.replace("select 1 / (:iteration::int - 5)", "select 1");
    let text = format!("{text}\"act.latency\" = {{ must = \"p(95) < 1ms\", abort = true, grace = \"500ms\" }}\n");
    let report = race(&sandbox, &server, &text).exits(2).json();
    assert_eq!(report["verdict"]["outcome"], "failed");
    assert!(report["race"]["cut_short"].as_str().unwrap().contains("act.latency"));
    assert_eq!(
        report["race"]["attempts"]["error"], 0,
        "who was under way is interrupted"
    );
}

#[test]
fn rules_are_told_with_the_figure_they_were_judged_by() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table seats (id int, taken boolean);
         insert into seats values (1, false), (2, false);
         create function take(p_id int) returns int language plpgsql as $$
         begin
             perform pg_sleep(p_id * 0.05);
             update seats set taken = true where id = p_id and not taken;
             if not found then
                 raise exception 'taken' using errcode = 'HT001';
             end if;
             return p_id;
         end $$",
    );
    let report = race(
        &sandbox,
        &server,
        r#"
        [keys]
        sql = "select id from seats order by id"
        [[sessions]]
        name     = "guest"
        sessions = 10
        gate     = "none"
        steps    = [{ name = "take", sql = "select take(:id)", reject = [{ sqlstate = "HT001" }] }]
        [[sessions]]
        name     = "idler"
        sessions = 1
        gate     = "none"
        start    = "1ms"
        steps    = [{ name = "idle", sql = "select pg_sleep(0.3)", reject = [{ sqlstate = "00001" }] }]
        [expect]
        winners                  = "== 1 per key"
        "guest.rejected"         = "rate == 80%"
        "take.rejected"          = "rate <= 80% per key"
        "attempts.accepted"      = ">= 0.1/s"
        "guest.accepted.latency" = "max < 60s"
        "take.latency"           = "max >= 99ms per key"
        "take.conflict.latency"  = "max < 1s"
        "idle.rejected.latency"  = "p(99) < 1s"
        retries                  = "== 0"
        interrupted              = "== 0"
        "#,
    )
    .exits(2)
    .json();
    let told = |name: &str| {
        let rule = rule(&report, name);
        (
            rule["state"].as_str().unwrap(),
            rule["measured"].as_str().unwrap().to_string(),
        )
    };
    assert_eq!(told("guest.rejected"), ("held", "80.00% (8 of 10)".into()));
    assert_eq!(told("take.rejected"), ("held", "2 of 2 keys".into()));
    assert_eq!(told("attempts.accepted").0, "held");
    assert!(told("attempts.accepted").1.ends_with("/s"));
    assert_eq!(told("guest.accepted.latency").0, "held");
    assert!(told("guest.accepted.latency").1.contains("ms"));
    let (state, figure) = told("take.latency");
    assert_eq!(state, "broken", "the first seat's take 50 ms");
    assert!(
        figure.contains("for id=1") && figure.contains("1 of 2 keys broken"),
        "{figure}"
    );
    assert_eq!(told("take.conflict.latency"), ("no_data", "no data".into()));
    assert_eq!(told("idle.rejected.latency").0, "no_data");
    assert_eq!(told("retries"), ("held", "0".into()));
    assert_eq!(told("interrupted"), ("held", "0".into()));
    // the idler has a key as well, and is accepted for it
    assert_eq!(told("winners").0, "broken");
}

#[test]
fn a_rule_without_data_is_inconclusive() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = "[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"none\"\n\
                steps = [{ name = \"act\", sql = \"select pg_sleep(0.1)\" }]\n[expect]\n\"a.conflict.latency\" = \"p(95) < 1s\"\n";
    let report = race(&sandbox, &server, text).exits(3).json();
    assert_eq!(report["verdict"]["outcome"], "inconclusive");
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(
        reasons.contains("a.conflict.latency") && reasons.contains("no data"),
        "{reasons}"
    );
}

#[test]
fn all_that_postgresql_says_of_an_unexpected_error_is_told() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create function complain(p_session int) returns void language plpgsql as $$
         begin
             raise exception 'no way' using errcode = 'HT042', detail = 'the detail', hint = 'the hint',
                 schema = 'the_schema', table = 'the_table', column = 'the_column', datatype = 'the_type',
                 constraint = 'the_constraint';
         end $$",
    );
    let text = "[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"start\"\n\
                steps = [{ name = \"act\", sql = \"select complain(:session)\" }]\n";
    let report = race(&sandbox, &server, text).exits(2).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("error", 2)]);
    let reason = &report["race"]["reasons"][0];
    for (field, value) in [
        ("sqlstate", "HT042"),
        ("message", "no way"),
        ("detail", "the detail"),
        ("constraint", "the_constraint"),
    ] {
        assert_eq!(reason[field], value);
    }
    assert!(reason["context"].as_str().unwrap().contains("complain(integer) line 3"));
    for (field, value) in [
        ("severity", "ERROR"),
        ("hint", "the hint"),
        ("schema", "the_schema"),
        ("table", "the_table"),
        ("column", "the_column"),
        ("datatype", "the_type"),
        ("file", "pl_exec.c"),
        ("routine", "exec_stmt_raise"),
    ] {
        assert_eq!(reason["fields"][field], value, "{reason:#}");
    }
    assert!(reason["fields"]["line"].as_str().unwrap().parse::<u32>().is_ok());
    assert_eq!(count(&reason["count"]), 2);

    let file = sandbox.write("text.toml", &format!("title = \"t\"\n{text}"));
    sandbox
        .run(&format!("contend {file} --url {} --no-control", server.url()))
        .exits(2)
        .shows(&[
            "no way",
            "detail: the detail",
            "hint: the hint",
            "the_schema.the_table",
            "the_column",
            "complain(integer) line 3",
        ]);
}
