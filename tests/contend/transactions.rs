//! Several steps in one transaction: how it begins, what a failure leaves behind, and that COMMIT has the last word.

use std::time::Duration;

use super::{group, list, outcomes, race, step};
use crate::common::{Sandbox, wait_until};

/// A group of two with a transaction, whose sessions begin freely.
fn two(transaction: &str, steps: &str) -> String {
    format!(
        "[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"none\"\ntransaction = {transaction}\nsteps = [{steps}]\n"
    )
}

#[test]
fn the_options_of_begin_arrive_at_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for (transaction, isolation, read_only, deferrable) in [
        ("true", "read committed", "off", "off"),
        (r#"{ isolation = "repeatable-read" }"#, "repeatable read", "off", "off"),
        (r#"{ isolation = "serializable" }"#, "serializable", "off", "off"),
        ("{ read_only = true }", "read committed", "on", "off"),
        (
            r#"{ isolation = "serializable", read_only = true, deferrable = true }"#,
            "serializable",
            "on",
            "on",
        ),
    ] {
        let look = format!(
            "{{ name = \"look\", sql = \"select pg_sleep(0.1), 1 / (current_setting('transaction_isolation') = '{isolation}' \
             and current_setting('transaction_read_only') = '{read_only}' \
             and current_setting('transaction_deferrable') = '{deferrable}')::int\" }}"
        );
        let report = race(&sandbox, &server, &two(transaction, &look)).exits(0).json();
        assert_eq!(
            outcomes(&report["race"]["attempts"]),
            [("accepted", 2)],
            "{transaction}"
        );
    }
}

#[test]
fn the_steps_are_in_one_transaction_only_where_the_group_says_so() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let steps = r#"
        { name = "one", sql = "select pg_current_xact_id()::text as xid" },
        { name = "two", sql = "select 1 / (pg_current_xact_id()::text = :xid)::int", reject = [{ sqlstate = "22012" }] }"#;
    for (transaction, outcome) in [("true", "accepted"), ("false", "rejected")] {
        let report = race(&sandbox, &server, &two(transaction, steps)).json();
        assert_eq!(outcomes(&report["race"]["attempts"]), [(outcome, 2)]);
    }
}

#[test]
fn the_steps_of_a_failed_attempt_are_rolled_back_and_ended_as_it_did() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let report = race(
        &sandbox,
        &server,
        &two(
            "true",
            r#"
            { name = "one", sql = "insert into t select :session from pg_sleep(0.1)" },
            { name = "two", sql = "select 1 / (:session::int - 1)", reject = [{ sqlstate = "22012" }] }"#,
        ),
    )
    .exits(0)
    .json();
    let half = [("accepted", 1), ("rejected", 1)];
    assert_eq!(outcomes(&report["race"]["attempts"]), half);
    assert_eq!(
        outcomes(&step(&report, "one")["outcomes"]),
        half,
        "one of them is not stored"
    );
    assert_eq!(outcomes(&step(&report, "two")["outcomes"]), half);
    assert_eq!(server.value("select string_agg(session::text, ' ') from t"), "2");
}

#[test]
fn what_a_deferred_constraint_refuses_at_commit_was_not_accepted() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table parent (id int constraint one_each unique deferrable initially deferred);
         insert into parent values (1);
         create table child (parent int constraint has_parent references parent_key deferrable initially deferred);"
            .replace(
                "create table child",
                "create table parent_key (id int primary key); create table child",
            )
            .as_str(),
    );
    let keep = r#"{ name = "keep", sql = "insert into parent select 1 from pg_sleep(0.1)", reject = [{ constraint = "one_each" }] }"#;
    let report = race(&sandbox, &server, &two("true", keep)).exits(0).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("rejected", 2)]);
    assert_eq!(outcomes(&step(&report, "keep")["outcomes"]), [("rejected", 2)]);
    let [reason] = list(&report["race"]["reasons"]) else {
        panic!("{:#}", report["race"]["reasons"])
    };
    assert_eq!(
        (&reason["step"], &reason["sqlstate"]),
        (&"commit".into(), &"23505".into())
    );
    assert_eq!(server.value("select count(*) from parent"), "1");

    let orphan = r#"{ name = "orphan", sql = "insert into child select 7 from pg_sleep(0.1)" }"#;
    let report = race(&sandbox, &server, &two("true", orphan)).exits(2).json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("error", 2)],
        "nobody expected it"
    );
    assert_eq!(report["race"]["reasons"][0]["sqlstate"], "23503");
    assert_eq!(report["race"]["reasons"][0]["step"], "commit");
    assert_eq!(server.value("select count(*) from child"), "0");
}

#[test]
fn a_serialization_failure_at_commit_is_a_conflict() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table doctors (id int primary key, on_call boolean); insert into doctors values (1, true), (2, true)",
    );
    let steps = r#"
        { name = "look", sql = "select count(*) from doctors where on_call" },
        { name = "leave", sql = "update doctors set on_call = false where id = :session", pause = "300ms" },
        { name = "linger", sql = "select 1", pause = "300ms" }"#;
    let report = race(&sandbox, &server, &two(r#"{ isolation = "serializable" }"#, steps))
        .exits(0)
        .json();
    assert_eq!(
        outcomes(&report["race"]["attempts"]),
        [("accepted", 1), ("conflict", 1)]
    );
    let reason = &report["race"]["reasons"][0];
    assert_eq!(
        (&reason["step"], &reason["sqlstate"]),
        (&"commit".into(), &"40001".into())
    );
    assert_eq!(
        outcomes(&step(&report, "leave")["outcomes"]),
        [("accepted", 1), ("conflict", 1)]
    );
    assert_eq!(server.value("select count(*) from doctors where on_call"), "1");
}

#[test]
fn a_transaction_that_the_server_gave_up_was_not_accepted() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let text = two(
        "true",
        r#"
        { name = "one", sql = "insert into t values (:session)" },
        { name = "two", sql = "select 1", pause = "600ms" }"#,
    );
    let text = text.replace(
        "steps =",
        "settings = { idle_in_transaction_session_timeout = \"100ms\" }\nsteps =",
    );
    let report = race(&sandbox, &server, &text).json();
    assert_eq!(
        report["race"]["attempts"]["accepted"], 0,
        "{:#}",
        report["race"]["attempts"]
    );
    assert_eq!(step(&report, "one")["outcomes"]["accepted"], 0);
    assert_ne!(report["verdict"]["outcome"], "passed");
    assert_eq!(server.value("select count(*) from t"), "0");
}

#[test]
fn an_interrupted_transaction_is_rolled_back_and_its_steps_do_not_count() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let text = two(
        "true",
        r#"
        { name = "one", sql = "insert into t values (:session)" },
        { name = "two", sql = "select pg_sleep(60)", timeout = "10m" }"#,
    );
    let text = text.replace(
        "steps =",
        "schedule = { kind = \"constant\", duration = \"300ms\" }\ngrace = \"0s\"\nsteps =",
    );
    let report = race(&sandbox, &server, &text).json();
    assert_eq!(group(&report, "a")["interrupted"], 2);
    assert_eq!(outcomes(&step(&report, "one")["outcomes"]), []);
    assert_eq!(server.value("select count(*) from t"), "0");
    let open = "(select count(*) from pg_stat_activity where application_name like 'db-race%')";
    wait_until("nobody is left in a transaction", Duration::from_secs(10), || {
        server.is(&format!("{open} = 0"))
    });
}

#[test]
fn a_begin_that_fails_says_why() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    // ends the session's own connection between its attempts
    let text = "[[sessions]]\nname = \"a\"\nsessions = 2\ngate = \"none\"\ntransaction = { isolation = \"serializable\" }\n\
                settings = { lock_timeout = \"600h\" }\nsteps = [{ name = \"one\", sql = \"select pg_sleep(0.1)\" }]\n";
    let report = race(&sandbox, &server, text).exits(2).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("error", 2)]);
    let reason = &report["race"]["reasons"][0];
    assert_eq!(
        (&reason["step"], &reason["sqlstate"]),
        (&"begin".into(), &"22023".into())
    );
}

#[test]
fn a_gate_holds_the_first_step_of_each_transaction() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int, step int)");
    for gate in ["start", "write", "commit"] {
        let text = format!(
            "[[sessions]]\nname = \"a\"\nsessions = 5\ngate = \"{gate}\"\ntransaction = true\n\
             schedule = {{ kind = \"per-session\", iterations = 3 }}\nsteps = [\n\
             {{ name = \"one\", sql = \"insert into t values (:session, 1)\" }},\n\
             {{ name = \"two\", sql = \"insert into t values (:session, 2)\" }}]\n"
        );
        let report = race(&sandbox, &server, &text).exits(0).json();
        assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 15)], "{gate}");
        let waves = list(&report["race"]["rounds"][0]["waves"]);
        assert_eq!(waves.len(), 3, "{gate}: {waves:#?}");
        assert!(
            waves.iter().all(|w| w["held"] == 5 && w["deadline"] == false),
            "{gate}: {waves:#?}"
        );
    }
}
