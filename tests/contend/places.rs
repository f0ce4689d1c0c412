//! Where a run takes place, and what it leaves there.

use std::time::Duration;

use db_race::postgres::server::Options;

use crate::common::database::Database;
use crate::common::run::{Running, rule};
use crate::common::{Sandbox, TestServer, wait_until};

const COUNTER: &str = r#"
title  = "A counter of one's own"
setup  = "update counters set n = 0"
[keys]
sql  = "select id from counters"
[[sessions]]
name     = "a"
sessions = 4
steps    = [{ name = "count", sql = "select count_up(:id)" }]
[expect]
"count.accepted" = "== 4 per key"
"#;

fn with_counters(sandbox: &Sandbox) -> TestServer {
    let server = sandbox.server();
    server.exec(
        "create table counters (id int primary key, n int not null);
         insert into counters values (7, 0);
         create function count_up(p_id int) returns void language plpgsql as $$
         declare v int;
         begin
             select n into v from counters where id = p_id;
             update counters set n = v + 1 where id = p_id;
         end $$",
    );
    server
}

#[test]
fn a_scenario_without_a_system_races_the_database_it_is_given() {
    let sandbox = Sandbox::new();
    let server = with_counters(&sandbox);
    let check = "-- /// db-race check\n-- id = \"counted\"\n-- title = \"All are counted\"\n-- key = [\"id\"]\n-- ///\n\
                 select id, n from counters where n not in (0, 4)";
    sandbox.write("counted.sql", check);
    let file = sandbox.write("counter.toml", &format!("checks = [\"counted.sql\"]\n{COUNTER}"));
    let before = server.value("select string_agg(datname, ' ' order by datname) from pg_database");

    let report = sandbox
        .run(&format!("contend {file} --url {} --format json", server.url()))
        .exits(2)
        .json();

    assert_eq!(report["server"]["throwaway"], false);
    assert_eq!(report["race"]["system"], serde_json::Value::Null);
    assert_eq!(
        rule(&report, "count.accepted")["state"],
        "held",
        "all four were told that they counted"
    );
    assert_eq!(rule(&report, "counted")["state"], "broken", "a lost update");
    assert_eq!(report["verdict"]["cause"], "concurrency_bug");
    assert_eq!(
        server.value("select n from counters"),
        "1",
        "what was raced stays as the race left it"
    );
    assert_eq!(
        before,
        server.value("select string_agg(datname, ' ' order by datname) from pg_database")
    );

    // made right, it passes
    server.exec(
        "create or replace function count_up(p_id int) returns void language sql as
         $$ update counters set n = n + 1 where id = p_id $$",
    );
    sandbox.run(&format!("contend {file} --url {}", server.url())).exits(0);
    assert_eq!(server.value("select n from counters"), "4");
}

#[test]
fn database_url_is_for_what_has_no_system_of_its_own() {
    let sandbox = Sandbox::new();
    let server = with_counters(&sandbox);
    let file = sandbox.write("counter.toml", COUNTER);
    let with_url = |words: &str, url: &str| {
        let mut command = sandbox.command(words);
        command.env("DATABASE_URL", url);
        sandbox.run_command(command)
    };
    with_url(&format!("contend {file}"), &server.url()).exits(0);
    assert_ne!(server.value("select n from counters"), "0");
    // a bundled system is never installed where the environment happens to point
    let report = with_url("contend last-room --rounds 1 --format json", &server.url())
        .exits(0)
        .json();
    assert_eq!(report["server"]["throwaway"], true);
    assert_eq!(server.value("select to_regclass('room_inventory')"), "NULL");
}

#[test]
fn a_bundled_scenario_makes_a_database_of_its_own_and_drops_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let databases = || server.rows("select datname from pg_database order by 1");
    let before = databases();
    for (flags, code) in [("", 0), ("--bug unlocked-read", 2), ("--sessions 1", 3)] {
        let words = format!(
            "contend last-room --rounds 1 {flags} --url {} --format json",
            server.url()
        );
        let report = sandbox.run(&words).exits(code).json();
        let address = report["server"]["address"].as_str().unwrap();
        assert!(address.contains("/db_race_hotel_"), "{address}");
        assert_eq!(before, databases(), "{flags}");
    }
    assert_eq!(
        server.value("select to_regclass('room_inventory')"),
        "NULL",
        "nothing was installed beside it"
    );
}

#[test]
fn an_interrupted_run_drops_its_database_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let made = || server.rows("select datname from pg_database where datname like 'db_race%'");
    let run = sandbox.start(&format!("contend last-room --rounds 10000 --url {}", server.url()));
    wait_for_sessions(&server, &run, 50);
    assert_eq!(made().len(), 1);
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait().exits(130).shows(&["last-room"]);
    assert_eq!(made().len(), 0);
}

#[test]
fn a_run_that_never_begins_drops_its_database_too() {
    let sandbox = Sandbox::new();
    let server = sandbox.server_with(Options {
        max_connections: 20,
        ..Options::default()
    });
    let bug = "-- /// db-race bug\n-- title = \"t\"\n-- replaces = \"p\"\n-- scenario = \"last-room\"\n\
               -- breaks = \"hold.accepted\"\n-- kind = \"concurrency\"\n-- ///\ntable no_such_table;\n";
    let bug = sandbox.write("broken.sql", bug);
    let command = format!("contend last-room --url {}", server.url());
    sandbox.run(&command).exits(69).complains(&["50 for its pool"]);
    sandbox
        .run(&format!("{command} --sessions 2 --bug {bug}"))
        .exits(64)
        .complains(&["broken.sql:8:", "no_such_table"]);
    assert_eq!(
        server.value("select count(*) from pg_database where datname like 'db_race%'"),
        "0"
    );
}

#[test]
fn a_user_who_may_not_create_databases_is_told_so() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create role plain login");
    sandbox
        .run(&format!("contend last-room --url {}", server.url_of("plain@/postgres")))
        .exits(69)
        .complains(&["permission denied to create database", "CREATEDB"]);
}

/// Waits until a run has its racing sessions connected to a server.
pub(crate) fn wait_for_sessions(server: &Database, run: &Running, at_least: u32) {
    let sessions = "(select count(*) from pg_stat_activity where application_name = 'db-race/session')";
    wait_until(&format!("sessions of {}", run.pid()), Duration::from_secs(30), || {
        server.is(&format!("{sessions} >= {at_least}"))
    });
}
