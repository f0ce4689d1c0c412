//! Each of the seven ways in which an attempt ends, from a server that gives it.

use std::time::Duration;

use serde_json::Value;

use super::{list, outcomes};
use crate::common::run::{Run, rule};
use crate::common::{Sandbox, TestServer, wait_until};

/// Two sessions, one step.
fn race(sandbox: &Sandbox, server: &TestServer, gate: &str, step: &str, expect: &str) -> Run {
    let file = two(sandbox, gate, step, expect);
    sandbox.run(&format!("contend {file} --url {} --format json", server.url()))
}

fn race_without_control(sandbox: &Sandbox, server: &TestServer, step: &str, expect: &str) -> Run {
    let file = two(sandbox, "write", step, expect);
    sandbox.run(&format!(
        "contend {file} --url {} --no-control --format json",
        server.url()
    ))
}

fn two(sandbox: &Sandbox, gate: &str, step: &str, expect: &str) -> String {
    let text = format!(
        "title = \"two\"\n[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"{gate}\"\n\
         steps = [{{ name = \"act\", {step} }}]\n[expect]\n{expect}\n"
    );
    sandbox.write("two.toml", &text)
}

/// The attempts of the race ended so, with one reason.
#[track_caller]
fn assert_all(report: &Value, outcome: &str, sqlstate: Option<&str>, message: &str) {
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [(outcome, 2)],
        "{:#}",
        report["race"]["reasons"]
    );
    let [reason] = list(&report["race"]["reasons"]) else {
        panic!("{:#}", report["race"]["reasons"])
    };
    assert_eq!(
        (reason["outcome"].as_str(), reason["sqlstate"].as_str()),
        (Some(outcome), sqlstate),
        "{reason}"
    );
    assert_eq!(
        (reason["step"].as_str(), reason["count"].as_u64()),
        (Some("act"), Some(2)),
        "{reason}"
    );
    assert!(reason["message"].as_str().unwrap().contains(message), "{reason}");
}

#[test]
fn an_error_fails_the_run_by_a_rule_that_nobody_wrote() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let step = r#"sql = "select 1 / (:session::int - :session::int)""#;
    let report = race(&sandbox, &server, "start", step, "").exits(2).json();
    assert_all(&report, "error", Some("22012"), "division by zero");
    let implicit = rule(&report, "attempts.error");
    assert_eq!(
        (implicit["state"].as_str(), implicit["rule"].as_str()),
        (Some("broken"), Some("attempts.error == 0"))
    );
    assert_eq!(report["verdict"]["cause"], "plain_bug");
    // who expects errors says so
    let report = race(&sandbox, &server, "start", step, "\"attempts.error\" = \"== 2\"")
        .exits(0)
        .json();
    assert_eq!(rule(&report, "attempts.error")["state"], "held");
}

#[test]
fn a_step_that_takes_too_long_is_cancelled_on_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let step = r#"sql = "select pg_sleep(600)", timeout = "200ms""#;
    let report = race(&sandbox, &server, "start", step, "\"act.timeout\" = \"== 2\"")
        .exits(0)
        .json();
    assert_all(&report, "timeout", Some("57014"), "canceling statement");
    let busy = "(select count(*) from pg_stat_activity where pid <> pg_backend_pid() and state = 'active')";
    wait_until("no backend works on", Duration::from_secs(2), || {
        server.is(&format!("{busy} = 0"))
    });
}

#[test]
fn a_lock_that_is_not_to_be_had_is_a_timeout() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int); insert into t values (1)");
    server.exec("begin; select from t for update");
    let step = r#"sql = "select id from t for update nowait""#;
    let report = race(&sandbox, &server, "start", step, "\"act.timeout\" = \"== 2\"")
        .exits(0)
        .json();
    assert_all(&report, "timeout", Some("55P03"), "could not obtain lock");
}

#[test]
fn a_serialization_failure_is_a_conflict() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int, n int); insert into t values (1, 0);
         create function take() returns void language plpgsql as $$
         begin
             if (select n from t where id = 1) >= 0 then
                 update t set n = n + 1 where id = 1;
             end if;
         end $$",
    );
    for (level, met) in [
        ("read committed", &[("accepted", 2)][..]),
        ("repeatable read", &[("accepted", 1), ("conflict", 1)]),
        ("serializable", &[("accepted", 1), ("conflict", 1)]),
    ] {
        server.exec(&format!(
            "alter database postgres set default_transaction_isolation = '{level}'"
        ));
        let report = race(&sandbox, &server, "write", "sql = \"select take()\"", "")
            .exits(0)
            .json();
        assert_eq!(report["server"]["isolation"], level);
        assert_eq!(outcomes(&report["race"]["attempts"]), met, "{level}");
        if let Some(reason) = list(&report["race"]["reasons"]).first() {
            assert_eq!(reason["sqlstate"], "40001");
        }
    }
}

#[test]
fn a_connection_that_is_lost_in_the_middle_leaves_the_attempt_in_doubt() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    // after a while, so that both are there together
    let step = r#"sql = "select pg_sleep(0.2), pg_terminate_backend(pg_backend_pid())""#;
    let report = race(&sandbox, &server, "start", step, "").exits(3).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("in_doubt", 2)]);
    assert_eq!(report["verdict"]["outcome"], "inconclusive");
    let reasons = list(&report["verdict"]["reasons"]);
    assert!(
        reasons.iter().any(|why| why.as_str().unwrap().contains("in doubt")),
        "{reasons:?}"
    );
}

#[test]
fn a_refusal_that_the_scenario_expects_is_told_by_sqlstate_constraint_or_message() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int constraint only_small check (id < 10));
         create function refuse(p_id int) returns void language plpgsql as $$
         begin
             if p_id > 100 then
                 raise exception 'no rooms left on %', p_id using errcode = 'HT001';
             end if;
             insert into t values (p_id);
         end $$",
    );
    for (argument, reject, rejected) in [
        ("101", r#"{ sqlstate = "HT001" }"#, true),
        ("101", r#"{ message = "no rooms*" }"#, true),
        (
            "101",
            r#"{ sqlstate = "HT001", message = "no rooms left on 10?" }"#,
            false,
        ),
        ("101", r#"{ message = "no rooms" }"#, false),
        ("101", r#"{ sqlstate = "HT002" }"#, false),
        ("11", r#"{ constraint = "only_small" }"#, true),
        (
            "11",
            r#"{ sqlstate = "23514", constraint = "only_small", message = "new row*" }"#,
            true,
        ),
        ("11", r#"{ constraint = "only_large" }"#, false),
        ("11", r#"{ sqlstate = "HT001" }, { sqlstate = "23514" }"#, true),
    ] {
        let step = format!("sql = \"select refuse({argument})\", reject = [{reject}]");
        let run = race(&sandbox, &server, "start", &step, "");
        let outcome = if rejected { "rejected" } else { "error" };
        let report = run.exits(if rejected { 0 } else { 2 }).json();
        assert_eq!(
            outcomes(&report["race"]["attempts"]),
            [(outcome, 2)],
            "{argument} {reject}"
        );
        let constraint = (argument == "11").then_some("only_small");
        assert_eq!(report["race"]["reasons"][0]["constraint"].as_str(), constraint);
    }
}

#[test]
fn an_answer_can_be_the_refusal_that_the_scenario_expects() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table seats (id int, taken boolean);
         create function take(out success boolean, out message text) language plpgsql as $$
         begin
             update seats set taken = true where id = 1 and not taken;
             success := found;
             message := case when found then 'it''s yours' else 'too late' end;
         end $$",
    );
    let update = r#"sql = "update seats set taken = true where id = 1 and not taken returning id""#;
    let call = r#"sql = "select success, message from take()""#;
    for (step, reject, met) in [
        (update, "{ no_row = true }", &[("accepted", 1), ("rejected", 1)][..]),
        (
            call,
            "{ row = { success = false } }",
            &[("accepted", 1), ("rejected", 1)],
        ),
        (
            call,
            "{ row = { success = false, message = \"too late\" } }",
            &[("accepted", 1), ("rejected", 1)],
        ),
        (
            call,
            "{ row = { success = false, message = \"too early\" } }",
            &[("accepted", 2)],
        ),
        (call, "{ no_row = true }", &[("accepted", 2)]),
    ] {
        server.exec("truncate seats; insert into seats values (1, false)");
        let step = format!("{step}, reject = [{reject}]");
        // the control would take the seat
        let expect = format!("\"act.accepted\" = \"== {}\"", met[0].1);
        let report = race_without_control(&sandbox, &server, &step, &expect).exits(0).json();
        assert_eq!(outcomes(&report["race"]["attempts"]), met, "{step}");
    }
    race(
        &sandbox,
        &server,
        "write",
        &format!("{call}, reject = [{{ row = {{ sucess = false }} }}]"),
        "",
    )
    .exits(64)
    .complains(&["two.toml:6:", "sucess", "did you mean `success`?"]);
}

#[test]
fn a_statement_that_fails_when_it_commits_was_not_accepted() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int constraint only_one unique deferrable initially deferred);
         create function keep(p_id int) returns int language sql as 'insert into t values (p_id) returning id'",
    );
    let step = r#"sql = "select keep(:round)", reject = [{ constraint = "only_one" }]"#;
    let report = race(&sandbox, &server, "write", step, "\"act.accepted\" = \"== 1\"")
        .exits(0)
        .json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 1), ("rejected", 1)]
    );
    assert_eq!(
        server.value("select count(*) from t where id = 1"),
        "1",
        "as many as were told so"
    );
}

#[test]
fn procedures_are_called_those_that_commit_by_themselves_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int);
         create procedure plain(p_id int) language sql as $$ insert into t values (p_id) $$;
         create procedure committing(p_id int) language plpgsql as $$
         begin
             insert into t values (p_id);
             commit;
             insert into t values (-p_id);
         end $$",
    );
    let report = race(&sandbox, &server, "write", "sql = \"call plain(:session)\"", "")
        .exits(0)
        .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 2)]);
    assert_eq!(report["race"]["gate_tables"], serde_json::json!(["public.t"]));
    assert_eq!(
        report["race"]["rounds"][0]["waves"][0]["held"], 2,
        "the write gate works for procedures"
    );
    assert_eq!(
        server.value("select string_agg(id::text, ' ' order by id) from t"),
        "1 1 2 2",
        "control and race"
    );

    server.exec("truncate t");
    let report = race(&sandbox, &server, "start", "sql = \"call committing(:session)\"", "")
        .exits(0)
        .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 2)]);
    assert_eq!(server.value("select count(*) from t"), "8");
}

#[test]
fn an_attempt_ends_at_its_first_step_that_is_not_accepted() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (step int, session int)");
    let file = sandbox.write(
        "steps.toml",
        r#"
        title = "Three steps, the second refuses the first session"
        [[sessions]]
        name     = "a"
        sessions = 2
        gate     = "start"
        steps    = [
          { name = "one", sql = "insert into t values (1, :session) returning session as who" },
          { name = "two", sql = "insert into t select 2, :who where 1 / (:who - 1) > 0", reject = [{ sqlstate = "22012" }] },
          { name = "three", sql = "insert into t values (3, :who)" },
        ]
        [expect]
        "one.accepted"      = "== 2"
        "two.rejected"      = "== 1"
        "three.accepted"    = "== 1"
        "attempts.accepted" = "== 1"
        "#,
    );
    let report = sandbox
        .run(&format!(
            "contend {file} --url {} --no-control --format json",
            server.url()
        ))
        .exits(0)
        .json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 1), ("rejected", 1)]
    );
    let seen = server.value("select string_agg(step || '/' || session, ' ' order by step, session) from t");
    assert_eq!(seen, "1/1 1/2 2/2 3/2");
}
