//! Time limits: of an attempt, and those that the server keeps for a group's connections.

use std::time::{Duration, Instant};

use super::{list, number, outcomes, race, step};
use crate::common::{Sandbox, TestServer, wait_until};

/// Nothing of the run is left in the server, once it has noticed that its clients are gone.
#[track_caller]
fn assert_nobody_works(server: &TestServer) {
    let others =
        "(select count(*) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend')";
    wait_until("nobody is there any more", Duration::from_secs(10), || {
        server.is(&format!("{others} = 0"))
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_cancelled_on_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (session int)");
    let began = Instant::now();
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name        = "a"
        sessions    = 2
        gate        = "none"
        transaction = true
        timeout     = "500ms"
        steps       = [
          { name = "one", sql = "insert into t values (:session)" },
          { name = "two", sql = "select pg_sleep(600)", timeout = "10m" },
        ]
        [expect]
        "a.timeout" = "== 2"
        "#,
    )
    .exits(0)
    .json();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(outcomes(&report["race"]["attempts"]), [("timeout", 2)]);
    assert_eq!(report["race"]["reasons"][0]["sqlstate"], "57014");
    let latency = &super::group(&report, "a")["latency"];
    assert!(number(&latency["min_ms"]) >= 490.0, "{latency}");
    assert_eq!(server.value("select count(*) from t"), "0");
    assert_nobody_works(&server);
}

#[test]
fn the_retries_of_an_attempt_count_into_its_limit() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create function fail() returns void language plpgsql as $$
         begin
             perform pg_sleep(0.1);
             raise exception 'not now' using errcode = 'HT009';
         end $$",
    );
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        gate     = "none"
        timeout  = "500ms"
        retry    = { on = ["57014", "HT009"], times = 1000, backoff = "0s" }
        steps    = [{ name = "fail", sql = "select fail()" }]
        "#,
    )
    .json();
    let outcomes = outcomes(&report["race"]["attempts"]);
    assert!(
        outcomes.iter().all(|(name, _)| ["timeout", "error"].contains(name)),
        "{outcomes:?}"
    );
    let tries = super::count(&super::group(&report, "a")["tries"]);
    assert!((4..=12).contains(&tries), "two sessions, five in turn: {tries}");
}

#[test]
fn groups_that_share_a_pool_keep_their_own_settings() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table seen (who text, lock_wait text, statement text, idle text)");
    race(
        &sandbox,
        &server,
        r#"
        [pool]
        size = 1
        [[sessions]]
        name     = "hasty"
        sessions = 2
        gate     = "none"
        settings = { lock_timeout = "150ms", statement_timeout = "20s" }
        schedule = { kind = "per-session", iterations = 10 }
        steps    = [{ name = "h", sql = "insert into seen values ('hasty', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'))" }]
        [[sessions]]
        name     = "idle"
        sessions = 2
        gate     = "none"
        settings = { idle_in_transaction_session_timeout = "3s" }
        schedule = { kind = "per-session", iterations = 10 }
        steps    = [{ name = "i", sql = "insert into seen values ('idle', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'))" }]
        [[sessions]]
        name     = "patient"
        sessions = 2
        gate     = "none"
        schedule = { kind = "per-session", iterations = 10 }
        steps    = [{ name = "p", sql = "insert into seen values ('patient', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'))" }]
        "#,
    );
    assert_eq!(
        server.rows("select who, lock_wait, statement, idle, count(*) from seen group by 1, 2, 3, 4 order by 1"),
        [
            ["hasty", "150ms", "20s", "0", "20"],
            ["idle", "0", "0", "3s", "20"],
            ["patient", "0", "0", "0", "20"],
        ]
    );
}

#[test]
fn the_servers_own_limits_are_timeouts_of_the_group_that_set_them() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int); insert into t values (1)");
    server.exec("begin; select from t for update");
    let report = race(
        &sandbox,
        &server,
        r#"
        [pool]
        size = 2
        [[sessions]]
        name     = "waiter"
        sessions = 2
        gate     = "none"
        settings = { lock_timeout = "100ms" }
        steps    = [{ name = "wait", sql = "select id from t for update" }]
        [[sessions]]
        name     = "worker"
        sessions = 2
        gate     = "none"
        settings = { statement_timeout = "200ms" }
        steps    = [{ name = "work", sql = "select pg_sleep(600)" }]
        [expect]
        "attempts.timeout" = "== 4"
        "#,
    )
    .json();
    assert_eq!(outcomes(&step(&report, "wait")["outcomes"]), [("timeout", 2)]);
    assert_eq!(outcomes(&step(&report, "work")["outcomes"]), [("timeout", 2)]);
    let reasons = list(&report["race"]["reasons"]);
    let of = |step: &str| reasons.iter().find(|r| r["step"] == step).unwrap();
    assert_eq!(of("wait")["sqlstate"], "55P03");
    assert_eq!(of("work")["sqlstate"], "57014");
    assert_nobody_works(&server);
}

#[test]
fn a_wait_for_a_connection_ends_with_the_schedule() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let report = race(
        &sandbox,
        &server,
        r#"
        [pool]
        size = 1
        wait = "60s"
        [[sessions]]
        name     = "a"
        sessions = 3
        grace    = "100ms"
        leak     = ["accepted"]
        schedule = { kind = "constant", duration = "300ms" }
        steps    = [{ name = "work", sql = "select 1" }]
        "#,
    )
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 1)]);
    let took = number(&report["race"]["rounds"][0]["duration_ms"]);
    assert!(took < 20_000.0, "{took}");
}

#[test]
fn a_second_connection_has_the_settings_of_its_group_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        gate     = "none"
        settings = { lock_timeout = "150ms" }
        steps    = [
          { name = "one", sql = "select pg_backend_pid() as pid from pg_sleep(0.1)" },
          { name = "two", sql = "select 1 / (current_setting('lock_timeout') = '150ms' and pg_backend_pid() <> :pid)::int", connection = "second" },
        ]
        "#,
    )
    .exits(0)
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("accepted", 2)]);
}
