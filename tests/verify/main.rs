//! `db-race verify`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod fields;
mod hostile;
mod order;
mod overrides;
mod runs;
mod side_effects;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::database::Database;
use common::run::{Run, rule};
use common::{Sandbox, TestServer, wait_until};
use serde_json::{Value, json};

/// A check file.
fn check(id: &str, header: &str, sql: &str) -> String {
    format!("-- /// db-race check\n-- id = \"{id}\"\n-- title = \"Check {id}\"\n{header}-- ///\n{sql}\n")
}

/// Runs checks, given by id and SQL. Those whose id begins with `warn` are warnings.
fn verify(sandbox: &Sandbox, server: &TestServer, checks: &[(&str, &str)], flags: &str) -> Run {
    // those of the run before
    let _ = fs::remove_dir_all(sandbox.dir().join("checks"));
    for (id, sql) in checks {
        let severity = if id.starts_with("warn") {
            "-- severity = \"warn\"\n"
        } else {
            ""
        };
        sandbox.write(&format!("checks/{id}.sql"), &check(id, severity, sql));
    }
    sandbox.run(&format!("verify checks --url {} {flags}", server.url()))
}

/// What became of a check.
#[track_caller]
fn of<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["id"] == id)
        .unwrap_or_else(|| panic!("no {id}: {checks:#?}"))
}

/// How many snapshots were taken.
fn snapshots(report: &Value) -> usize {
    report["databases"][0]["snapshots"].as_array().unwrap().len()
}

/// Whether a check was violated; held is the other thing that it may be.
#[track_caller]
fn violated(check: &Value) -> bool {
    let decision = check["decision"].as_str().unwrap();
    assert!(["held", "violated"].contains(&decision), "{check:#}");
    decision == "violated"
}

#[test]
fn without_a_database_the_checks_of_a_bundled_system_run_on_its_seed() {
    let sandbox = Sandbox::new();
    let report = sandbox.run("verify hotel --format json").exits(0).json();
    assert_eq!(
        (&report["command"], &report["server"]["throwaway"]),
        (&json!("verify"), &json!(true))
    );
    assert_eq!(report["verdict"]["outcome"], "passed");
    assert!(report["race"].is_null());
    sandbox.run("verify hotel").exits(0).shows(&["PASSED", "checks held"]);
}

#[test]
fn a_check_that_cannot_be_decided_is_never_passed() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int)");
    let checks = [
        ("a_holds", "select 1 as id where false"),
        ("b_divides", "select 1 / (select count(*) from t) as id"),
        ("c_sleeps", "select 1 as id from pg_sleep(600)"),
        ("d_no_table", "select id\nfrom no_such_table"),
        ("e_holds", "select id from t"),
    ];
    let flags = "--timeout 300ms --format json";
    for jobs in [1, 2] {
        let report = verify(&sandbox, &server, &checks, &format!("{flags} --jobs {jobs}"))
            .exits(3)
            .json();
        assert_eq!(report["verdict"]["outcome"], "inconclusive");
        for (id, why) in [
            ("b_divides", "division by zero"),
            ("c_sleeps", "statement timeout"),
            ("d_no_table", "no_such_table"),
        ] {
            let check = of(&report, id);
            assert_eq!(
                (&check["decision"], &check["count"]),
                (&json!("could_not_decide"), &json!(0)),
                "{check}"
            );
            assert!(check["reason"].as_str().unwrap().contains(why), "{check}");
            assert_eq!(rule(&report, id)["state"], "no_data");
        }
        for id in ["a_holds", "e_holds"] {
            assert_eq!(
                of(&report, id)["decision"],
                "held",
                "the others are decided all the same"
            );
        }
        let sleeping = "exists (select from pg_stat_activity where wait_event = 'PgSleep')";
        assert!(!server.is(sleeping), "the time limit is the server's");
    }
    verify(&sandbox, &server, &checks, "--timeout 300ms").exits(3).shows(&[
        "INCONCLUSIVE",
        "b_divides: could not decide",
        "division by zero",
    ]);
}

#[test]
fn a_check_that_loses_its_connection_does_not_take_the_others_with_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let checks = [
        ("a_dies", "select pg_terminate_backend(pg_backend_pid()) as id"),
        // the other one is busy with this one when the first one has died
        ("b_holds", "select 1 as id from pg_sleep(0.3) as s where s::text <> ''"),
        ("c_holds", "select 1 as id where false"),
        ("d_violated", "select 1 as id"),
    ];
    let report = verify(&sandbox, &server, &checks, "--jobs 2 --format json")
        .exits(2)
        .json();
    assert_eq!(of(&report, "a_dies")["decision"], "could_not_decide");
    assert_eq!(of(&report, "b_holds")["decision"], "held");
    assert_eq!(of(&report, "c_holds")["decision"], "held");
    assert_eq!(of(&report, "d_violated")["decision"], "violated");
    assert_eq!(snapshots(&report), 1, "it was the same snapshot for all");
    // with nobody left who has the snapshot, the others are looked at on another one
    let report = verify(&sandbox, &server, &checks, "--jobs 1 --format json")
        .exits(2)
        .json();
    assert!(snapshots(&report) > 1);
    let dead = of(&report, "a_dies");
    assert_eq!(dead["decision"], "could_not_decide");
    assert!(dead["reason"].as_str().unwrap().contains("57P01"), "{dead}");
    for (id, decision) in [("b_holds", "held"), ("c_holds", "held"), ("d_violated", "violated")] {
        assert_eq!(of(&report, id)["decision"], decision, "{id}");
        assert_eq!(of(&report, id)["snapshot"], 1, "{id}");
    }
}

#[test]
fn ctrl_c_ends_the_checks_with_a_report_and_on_the_server_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for (id, sql) in [
        ("a_finds", "select 1 as id"),
        ("b_sleeps", "select 1 as id from pg_sleep(600)"),
    ] {
        sandbox.write(&format!("checks/{id}.sql"), &check(id, "", sql));
    }
    let run = sandbox.start(&format!(
        "verify checks --timeout 10m --jobs 1 --url {} --format json",
        server.url()
    ));
    let sleeping = "exists (select from pg_stat_activity where wait_event = 'PgSleep')";
    wait_until("the second check", Duration::from_secs(20), || server.is(sleeping));
    run.signal(nix::sys::signal::Signal::SIGINT);
    let report = run.wait_at_most(Duration::from_secs(20)).exits(130).json();
    assert_eq!(
        of(&report, "a_finds")["decision"],
        "violated",
        "what was seen until then"
    );
    assert_eq!(of(&report, "b_sleeps")["decision"], "could_not_decide");
    assert!(!server.is(sleeping), "nobody sleeps on");
}

#[test]
fn an_error_in_a_check_shows_its_place() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let sql = "select 'é' as id,\n    no_such_column\nfrom pg_class";
    let run = verify(&sandbox, &server, &[("wrong", sql)], "").exits(3);
    // three lines of header and two fences before the SQL's second line
    let place = ["wrong.sql:6", "line 6"].iter().any(|place| run.stdout.contains(place));
    assert!(
        place && run.stdout.contains("wrong.sql") && run.stdout.contains("no_such_column"),
        "{run}"
    );
}

#[test]
fn a_key_column_that_the_check_does_not_return_is_named() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    sandbox.write(
        "keyless.sql",
        &check(
            "keyless",
            "-- key = [\"id\", \"nme\"]\n",
            "select 1 as id, 'x' as name where false",
        ),
    );
    let report = sandbox
        .run(&format!("verify keyless.sql --url {} --format json", server.url()))
        .exits(3)
        .json();
    let reason = report["checks"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("`nme`"), "{reason}");
}

#[test]
fn a_check_cannot_write() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int);
         insert into t values (1), (2);
         create sequence s;
         create function writes() returns int language sql as 'delete from t; select 1';
         create function turns_writing_on() returns int language plpgsql as $$
         begin
             set transaction read write;
             delete from t;
             return 1;
         end $$",
    );
    let state = || server.rows("select id, (select last_value from s), (select is_called from s) from t order by id");
    let before = state();
    let writing = [
        ("b_inserts", "insert into t values (3) returning id"),
        ("c_deletes", "delete from t returning id"),
        ("d_cte", "with gone as (delete from t returning id) select id from gone"),
        ("e_nextval", "select nextval('s') as id"),
        ("f_function", "select writes() as id"),
        ("g_two", "select 1 as id where false; delete from t"),
        ("h_commits", "commit; delete from t; begin"),
        ("i_drops", "drop table t"),
        ("j_read_write", "select turns_writing_on() as id"),
        ("k_setval", "select setval('s', 99) as id"),
        ("l_creates", "create table new as select 1 as id"),
        ("m_locks", "select id from t for update"),
    ];
    let mut checks = vec![("a_holds", "select 1 as id where false")];
    checks.extend(writing);
    checks.push(("z_finds", "select id from t"));
    let report = verify(&sandbox, &server, &checks, "--format json").exits(2).json();
    for (id, _) in writing {
        let check = of(&report, id);
        assert_eq!(check["decision"], "could_not_decide", "{check}");
        assert!(!check["reason"].as_str().unwrap().is_empty());
    }
    assert_eq!(of(&report, "a_holds")["decision"], "held");
    assert_eq!(
        of(&report, "z_finds")["count"],
        2,
        "the others are decided all the same"
    );
    assert_eq!(before, state(), "nothing was written");
    assert_eq!(server.value("select to_regclass('new')"), "NULL");
}

#[test]
fn the_exit_code_is_the_worst_that_was_found() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let holds = ("a_holds", "select 1 as id where false");
    let violated = ("b_violated", "select 1 as id");
    let undecided = ("c_undecided", "select 1 / 0 as id");
    let warns = ("warns", "select 1 as id");
    for (checks, code, outcome) in [
        (vec![holds], 0, "passed"),
        (vec![holds, warns], 1, "warned"),
        (vec![holds, violated], 2, "failed"),
        (vec![warns, violated], 2, "failed"),
        (vec![violated, undecided], 2, "failed"),
        (vec![holds, undecided], 3, "inconclusive"),
        (vec![warns, undecided], 3, "inconclusive"),
    ] {
        let report = verify(&sandbox, &server, &checks, "--format json").exits(code).json();
        assert_eq!(report["verdict"]["outcome"], outcome, "{checks:?}");
        assert_eq!(report["checks"].as_array().unwrap().len(), checks.len());
    }
}

#[test]
fn the_first_rows_are_shown_and_the_rest_is_counted_up_to_a_cap() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let checks = [
        ("exact", "select n as id from generate_series(1, 1000) n order by n"),
        (
            "many",
            "select n as id, null as nothing, 'it''s ' || n as text from generate_series(1, 5000) n order by n",
        ),
    ];
    let report = verify(&sandbox, &server, &checks, "--format json").exits(2).json();
    let many = of(&report, "many");
    assert_eq!((&many["count"], &many["count_is_capped"]), (&json!(1000), &json!(true)));
    let findings = many["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 5);
    assert_eq!(
        findings[0]["row"],
        json!([["id", "1"], ["nothing", null], ["text", "it's 1"]])
    );
    assert_eq!(findings[4]["row"][0][1], "5");
    let exact = of(&report, "exact");
    assert_eq!(
        (&exact["count"], &exact["count_is_capped"]),
        (&json!(1000), &json!(false))
    );

    let report = verify(&sandbox, &server, &checks, "--format json --sample 7")
        .exits(2)
        .json();
    assert_eq!(of(&report, "many")["findings"].as_array().unwrap().len(), 7);
    verify(&sandbox, &server, &checks, "")
        .exits(2)
        .shows(&["FAILED", "1000+ rows", "it's 5", "995 more"]);
}

#[test]
fn checks_see_nothing_of_what_is_committed_after_they_began() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    // a volatile function looks anew with each statement; only the transaction's snapshot makes it see the old state
    server.exec(
        "create table t (id int);
         create function after_the_change() returns setof t language plpgsql as $$
         begin
             perform pg_advisory_lock_shared(42);
             perform pg_advisory_unlock_shared(42);
             return query select * from t;
         end $$",
    );
    let wait_for_change = "select id from after_the_change()";
    for (name, sql) in [
        ("a", wait_for_change),
        ("b", wait_for_change),
        ("c", "select id from t"),
        ("d", "select id from t"),
    ] {
        sandbox.write(&format!("checks/{name}.sql"), &check(name, "", sql));
    }
    server.exec("select pg_advisory_lock(42)");
    let run = sandbox.start(&format!("verify checks --jobs 2 --url {} --format json", server.url()));
    let waiting = "(select count(*) from pg_locks where locktype = 'advisory' and not granted)";
    wait_until("two checks wait", Duration::from_secs(20), || {
        server.is(&format!("{waiting} = 2"))
    });
    server.exec("insert into t values (1)");
    server.exec("select pg_advisory_unlock(42)");
    // those that began before the change, and those that began after it
    let report = run.wait().exits(0).json();
    for id in ["a", "b", "c", "d"] {
        assert_eq!(of(&report, id)["decision"], "held", "{id}");
    }
    let again = sandbox
        .run(&format!("verify checks --url {} --format json", server.url()))
        .exits(2)
        .json();
    assert_eq!(of(&again, "c")["count"], 1, "the change is there");
}

#[test]
fn all_checks_see_the_same_moment_of_a_busy_database() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table counter (n bigint); insert into counter values (0)");
    for name in 1..=16 {
        sandbox.write(
            &format!("checks/{name}.sql"),
            &check(&format!("c{name}"), "", "select n from counter"),
        );
    }
    let url = server.url();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Database::connect(&url);
            while !stop.load(Ordering::Relaxed) {
                writer.exec("update counter set n = n + 1");
            }
        });
        let count = || server.value("select n from counter").parse::<u64>().unwrap();
        wait_until("the writer writes", Duration::from_secs(20), || count() > 0);
        let before = count();
        let run = sandbox.run(&format!("verify checks --jobs 8 --url {url} --format json"));
        let after = count();
        stop.store(true, Ordering::Relaxed);
        let report = run.exits(2).json();
        let seen: Vec<u64> = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| check["findings"][0]["row"][0][1].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(after > before + 10, "the writer did write: {before} {after}");
        assert_eq!(seen, [seen[0]; 16], "one moment for all");
        assert!(
            (before..=after).contains(&seen[0]),
            "a moment of the run: {before} {} {after}",
            seen[0]
        );
    });
}
