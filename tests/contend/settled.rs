//! What was told to sessions, against what is stored.

use std::time::Duration;

use super::{outcomes, race, start};
use crate::common::run::rule;
use crate::common::{Sandbox, wait_until};

const SETTLE: &str = "settle = \"select from t where session = :session\"";

fn two(steps: &str) -> String {
    format!("[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"none\"\n{SETTLE}\nsteps = [{steps}]\n")
}

#[test]
fn an_attempt_in_doubt_that_is_not_stored_was_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let text = two(
        r#"{ name = "act", sql = "with w as (insert into t values (:session)) select pg_sleep(0.2), pg_terminate_backend(pg_backend_pid())" }"#,
    );
    let report = race(&sandbox, &server, &text).exits(3).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("refused", 2)]);
    let settled = &report["race"]["settled"];
    assert_eq!((&settled["asked"], &settled["stored"]), (&2.into(), &0.into()));
    assert_eq!(
        (&settled["doubts_absent"], &settled["doubts_stored"]),
        (&2.into(), &0.into())
    );
    let report = race(
        &sandbox,
        &server,
        &format!("{text}[expect]\n\"attempts.refused\" = \"== 2\"\n"),
    )
    .exits(0)
    .json();
    assert_eq!(rule(&report, "attempts.refused")["state"], "held");
}

#[test]
fn an_attempt_in_doubt_that_is_stored_was_accepted() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    for transaction in [false, true] {
        server.exec("truncate t");
        // a COMMIT is durable before it waits for a standby; here it waits for ever, so the answer never comes
        server.exec("alter system set synchronous_standby_names = 'nobody'");
        server.exec("select pg_reload_conf()");
        wait_until("the setting", Duration::from_secs(10), || {
            server.is("current_setting('synchronous_standby_names') = 'nobody'")
        });
        let text = two(r#"{ name = "act", sql = "insert into t values (:session)" }"#);
        let text = text.replace("steps", &format!("transaction = {transaction}\nsteps"));
        let run = start(
            &sandbox,
            &server,
            &format!("{text}[expect]\n\"a.accepted\" = \"== 2\"\n"),
        );
        let waiting = "from pg_stat_activity where wait_event = 'SyncRep'";
        wait_until("both commits", Duration::from_secs(30), || {
            server.is(&format!("(select count(*) {waiting}) = 2"))
        });
        server.exec(&format!("select pg_terminate_backend(pid) {waiting}"));
        let report = run.wait().exits(0).json();
        server.exec("alter system reset synchronous_standby_names");
        server.exec("select pg_reload_conf()");
        wait_until("the setting", Duration::from_secs(10), || {
            server.is("current_setting('synchronous_standby_names') = ''")
        });
        assert_eq!(server.value("select count(*) from t"), "2", "the premise");
        assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 2)]);
        assert_eq!(report["race"]["settled"]["doubts_stored"], 2);
        assert_eq!(
            report["race"]["reasons"][0]["outcome"], "in_doubt",
            "what was seen is still told"
        );
        assert_eq!(super::group(&report, "a")["starved"], 0);
    }
}

#[test]
fn without_settle_an_attempt_in_doubt_stays_so() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let text = two(r#"{ name = "act", sql = "select pg_sleep(0.2), pg_terminate_backend(pg_backend_pid())" }"#);
    let report = race(&sandbox, &server, &text.replace(SETTLE, "")).exits(3).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("in_doubt", 2)]);
    assert_eq!(report["race"]["settled"], serde_json::Value::Null);
}

#[test]
fn what_was_acknowledged_and_is_not_stored_is_lost() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (session int);
         create function forget() returns trigger language plpgsql as $$
         begin
             delete from t where session = new.session;
             return null;
         end $$;
         create trigger forget after insert on t for each row when (new.session = 2) execute function forget()",
    );
    let text = two(r#"{ name = "act", sql = "insert into t select :session from pg_sleep(0.1) returning session" }"#);
    let report = race(&sandbox, &server, &text).exits(2).json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 2)],
        "so they were told"
    );
    let lost = rule(&report, "settled.lost");
    assert_eq!((&lost["state"], &lost["measured"]), (&"broken".into(), &"1".into()));
    assert_eq!(rule(&report, "settled.ghosts")["state"], "held");
    assert_eq!(
        report["race"]["settled"]["examples"],
        serde_json::json!(["a 2, attempt 1: accepted, and not stored"])
    );
}

#[test]
fn what_was_refused_and_is_stored_is_a_ghost() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (session int);
         create function lie(p_session int, out success boolean) language plpgsql as $$
         begin
             perform pg_sleep(0.1);
             insert into t values (p_session);
             success := p_session = 1;
         end $$",
    );
    let act =
        r#"{ name = "act", sql = "select success from lie(:session)", reject = [{ row = { success = false } }] }"#;
    let report = race(&sandbox, &server, &two(act)).exits(2).json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 1), ("rejected", 1)]
    );
    assert_eq!(rule(&report, "settled.ghosts")["state"], "broken");
    assert_eq!(rule(&report, "settled.lost")["state"], "held");
    assert_eq!(
        report["race"]["settled"]["examples"],
        serde_json::json!(["a 2, attempt 1: rejected, and stored all the same"])
    );
}

#[test]
fn a_settle_query_that_fails_decides_nothing() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let act = r#"{ name = "act", sql = "insert into t select :session from pg_sleep(0.1)" }"#;
    let text = two(act).replace("where session = :session", "where session / (:session - 2) = 7");
    let report = race(&sandbox, &server, &text).exits(3).json();
    let lost = rule(&report, "settled.lost");
    assert_eq!(lost["state"], "no_data", "{lost:#}");
    assert!(
        lost["measured"].as_str().unwrap().contains("division by zero"),
        "{lost:#}"
    );
}
