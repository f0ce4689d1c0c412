//! A run as a whole: its snapshot, its role, its databases.

use std::fs;
use std::process::Command;
use std::time::Duration;

use db_race::postgres::server::Options;
use serde_json::{Value, json};

use crate::common::database::Database;
use crate::common::processes::postgres_in;
use crate::common::standby::Standby;
use crate::common::{Sandbox, TestServer, project, wait_until};
use crate::{check, of, snapshots};

/// Writes checks, given by id and SQL.
fn write(sandbox: &Sandbox, checks: &[(&str, &str)]) {
    let _ = fs::remove_dir_all(sandbox.dir().join("checks"));
    for (id, sql) in checks {
        sandbox.write(&format!("checks/{id}.sql"), &check(id, "-- key = [\"id\"]\n", sql));
    }
}

/// Runs psql on a file.
fn psql(server: &TestServer, url: &str, flags: &[&str], file: &str) {
    let done = Command::new(server.psql_path())
        .args(["-X", "-q"])
        .args(flags)
        .args(["-d", url, "-f", file])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_role_that_could_do_more_than_read_is_refused_with_the_way_out() {
    let sandbox = Sandbox::new();
    // not known as one of db-race's own, on which nobody is refused
    let server = sandbox.server_with(Options {
        settings: vec![("cluster_name".into(), "app".into())],
        ..Options::default()
    });
    write(&sandbox, &[("one", "select 1 as id where false")]);
    server.exec(
        "create role plain login;
         create role runs login; grant pg_execute_server_program to runs;
         create role files login; grant pg_write_server_files to files;
         create role admin; grant postgres to admin;
         create role member login; grant admin to member;
         create role humble superuser login",
    );
    server.exec("alter role humble set role = plain");
    let own = sandbox.server();
    let mut command = sandbox.command(&format!("verify checks --url {}", own.url()));
    command.env_remove("DB_RACE_ALLOW_SUPERUSER");
    sandbox.run_command(command).exits(0);
    let run = |user: &str, flags: &str| {
        let url = server.url_of(&format!("{user}@/postgres"));
        let mut command = sandbox.command(&format!("verify checks --url {url} {flags}"));
        command.env_remove("DB_RACE_ALLOW_SUPERUSER");
        sandbox.run_command(command)
    };
    run("plain", "").exits(0);
    for (user, why) in [
        ("postgres", "postgres is a superuser"),
        ("runs", "may act as pg_execute_server_program"),
        ("files", "may act as pg_write_server_files"),
        ("member", "may act as postgres"),
        ("humble", "humble is a superuser"),
    ] {
        let refused = run(user, "").exits(64);
        refused.complains(&[why, "db-race check role", "--allow-superuser", &format!("{user}@")]);
        run(user, "--allow-superuser").exits(0);
    }
}

#[test]
fn the_role_that_is_shipped_reads_everything_and_writes_nothing() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let url = server.url();
    server.exec("create schema other; create table other.t (id int); insert into other.t values (1)");
    let printed = sandbox.run("check role").exits(0);
    let shipped = fs::read_to_string(project().join("sql/roles/db_race_check.sql")).unwrap();
    assert_eq!(printed.stdout.trim_end(), shipped.trim_end());
    let file = sandbox.write("role.sql", &printed.stdout);
    // again, as after an upgrade
    psql(&server, &url, &["-v", "password='secret'"], &file);
    psql(&server, &url, &[], &file);
    server.exec("create table later (id int); insert into later values (1); create sequence s");
    server.exec("grant all on later to db_race_check");
    write(
        &sandbox,
        &[
            ("a_other", "select id from other.t"),
            ("b_later", "select id from later"),
            (
                "c_sees_sessions",
                "select pid as id from pg_stat_activity where query is null or query = '<insufficient privilege>'",
            ),
            ("d_nextval", "select nextval('s') as id"),
        ],
    );
    let ours = server.url_of("db_race_check@/postgres");
    let mut command = sandbox.command(&format!("verify checks --url {ours} --jobs 4 --format json"));
    command.env_remove("DB_RACE_ALLOW_SUPERUSER");
    let report = sandbox.run_command(command).exits(2).json();
    assert_eq!(of(&report, "a_other")["count"], 1);
    assert_eq!(of(&report, "b_later")["count"], 1);
    assert_eq!(of(&report, "c_sees_sessions")["decision"], "held", "{report:#}");
    assert_eq!(of(&report, "d_nextval")["decision"], "could_not_decide");
    // by itself, too
    let session = Database::connect(&ours);
    assert_eq!(session.value("show default_transaction_read_only"), "on");
    assert_eq!(session.value("show idle_in_transaction_session_timeout"), "10min");
    assert!(!session.is(
        "(select rolsuper or rolcreatedb or rolcreaterole or rolreplication from pg_roles where rolname = current_user)"
    ));
    assert!(session.is("(select rolconnlimit between 1 and 50 from pg_roles where rolname = current_user)"));
}

#[test]
fn a_snapshot_that_is_too_old_is_given_up() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    write(
        &sandbox,
        &[
            ("a_holds", "select 1 as id where false"),
            ("b_sleeps", "select 1 as id from pg_sleep(600)"),
            ("c_waits", "select 1 as id"),
        ],
    );
    let flags = "--jobs 1 --timeout 10m --max-snapshot-age 1s --format json";
    let report = sandbox
        .run(&format!("verify checks --url {} {flags}", server.url()))
        .exits(3)
        .json();
    assert_eq!(of(&report, "a_holds")["decision"], "held");
    for id in ["b_sleeps", "c_waits"] {
        assert_eq!(of(&report, id)["decision"], "could_not_decide");
        let reason = of(&report, id)["reason"].as_str().unwrap();
        assert!(
            reason.contains("given up when it was 1s old") && reason.contains("--max-snapshot-age"),
            "{reason}"
        );
    }
    let snapshot = &report["databases"][0]["snapshots"][0];
    assert!(
        snapshot["held_ms"].as_f64().unwrap() >= 1000.0 && snapshot["xmin_age"].is_i64(),
        "{snapshot}"
    );
    let holders = "exists (select from pg_stat_activity where application_name = 'db-race/verify')";
    assert!(!server.is(holders), "nobody holds it any more");
}

#[test]
fn the_snapshot_is_described() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    write(
        &sandbox,
        &[
            ("a", "select 1 as id from pg_sleep(1) as s where s::text <> ''"),
            ("b", "select 2 as id where false"),
        ],
    );
    let before = server.value("select pg_current_wal_lsn()");
    let run = sandbox.start(&format!("verify checks --jobs 2 --url {} --format json", server.url()));
    let sleeping = "exists (select from pg_stat_activity where wait_event = 'PgSleep')";
    wait_until("the first check", Duration::from_secs(20), || server.is(sleeping));
    server.exec("create table t (id int)");
    server.exec("drop table t");
    let report = run.wait().exits(0).json();
    let snapshot = &report["databases"][0]["snapshots"][0];
    let lsn = snapshot["lsn"].as_str().unwrap();
    assert!(server.is(&format!(
        "'{lsn}'::pg_lsn >= '{before}' and '{lsn}'::pg_lsn <= pg_current_wal_lsn()"
    )));
    assert!(snapshot["xmin"].as_str().unwrap().parse::<u64>().unwrap() > 3);
    assert_eq!(snapshot["xmin_age"], 2, "transactions that began meanwhile: {snapshot}");
    assert!(humantime_of(snapshot["taken_at"].as_str().unwrap()), "{snapshot}");
}

fn humantime_of(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && text.contains('T')
}

#[test]
fn a_serializable_snapshot_waits_until_it_is_safe() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int); insert into t values (1)");
    write(
        &sandbox,
        &[
            ("a", "select id from t"),
            ("b", "select current_setting('transaction_isolation') as id"),
        ],
    );
    let writer = Database::connect(&server.url());
    writer.exec("begin isolation level serializable; select * from t; insert into t values (2)");
    // it may not be looked at before the writer is done
    let url = server.url();
    let run = sandbox.start(&format!("verify checks --url {url} --deferrable --format json"));
    let waits = "exists (select from pg_stat_activity where wait_event = 'SafeSnapshot')";
    wait_until("the wait for a safe snapshot", Duration::from_secs(20), || {
        server.is(waits)
    });
    writer.exec("commit");
    let report = run.wait().exits(2).json();
    assert_eq!(of(&report, "a")["decision"], "violated");
    assert_eq!(snapshots(&report), 1);
    writer.exec("begin isolation level serializable; select * from t; insert into t values (3)");
    sandbox
        .run(&format!("verify checks --url {url} --deferrable --max-snapshot-age 1s"))
        .exits(69)
        .complains(&["no safe snapshot within 1s", "pg_safe_snapshot_blocking_pids"]);
    writer.exec("rollback");
}

#[test]
fn several_databases_are_looked_at_side_by_side() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for (name, rows) in [("shard_a", 0), ("shard_b", 2)] {
        server.exec(&format!("create database {name}"));
        Database::connect(&server.url_of(&format!("postgres@/{name}"))).exec(&format!(
            "create table t as select n as id from generate_series(1, {rows}) n"
        ));
    }
    write(
        &sandbox,
        &[
            ("rows", "select id from t order by id"),
            ("none", "select 1 as id where false"),
        ],
    );
    let (a, b) = (server.url_of("postgres@/shard_a"), server.url_of("postgres@/shard_b"));
    let nowhere = server.url_of("postgres@/shard_c");
    let report = sandbox
        .run(&format!("verify checks --url {a} --url {b} --format json"))
        .exits(2)
        .json();
    let databases = report["databases"].as_array().unwrap();
    let addresses: Vec<&str> = databases.iter().map(|d| d["address"].as_str().unwrap()).collect();
    assert!(
        addresses[0].ends_with("/shard_a") && addresses[1].ends_with("/shard_b"),
        "{addresses:?}"
    );
    let seen: Vec<(u64, &str, u64)> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (
                c["database"].as_u64().unwrap(),
                c["id"].as_str().unwrap(),
                c["count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(seen, [(0, "none", 0), (0, "rows", 0), (1, "none", 0), (1, "rows", 2)]);

    // one that is not there costs the others nothing
    let list = sandbox.write("shards", &format!("# the shards\n{a}\n\n{nowhere}\n"));
    let report = sandbox
        .run(&format!("verify checks --databases {list} --format json"))
        .exits(3)
        .json();
    let problem = report["databases"][1]["problem"].as_str().unwrap();
    assert!(problem.contains("shard_c") && problem.contains("3D000"), "{problem}");
    let decisions: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["decision"])
        .collect();
    assert_eq!(
        json!(decisions),
        json!(["held", "held", "could_not_decide", "could_not_decide"])
    );
    // only when none is there it is the connection's fault
    sandbox
        .run(&format!("verify checks --url {nowhere} --url {nowhere}"))
        .exits(69)
        .complains(&["shard_c"]);
    sandbox.write("shards", "# none\n");
    sandbox
        .run(&format!("verify checks --databases {list}"))
        .exits(64)
        .complains(&["no databases in it"]);
    sandbox.write("shards", "\nhost=a prot=5\n");
    sandbox
        .run(&format!("verify checks --databases {list}"))
        .exits(64)
        .complains(&["shards:2:"]);
}

#[test]
fn the_exit_code_can_be_stricter_or_milder() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    sandbox.write("warns/a.sql", &check("a", "-- severity = \"warn\"\n", "select 1 as id"));
    sandbox.write("breaks/a.sql", &check("a", "", "select 1 / 0 as id"));
    sandbox.write("fails/a.sql", &check("a", "", "select 1 as id"));
    sandbox.write("both/w.sql", &check("w", "-- severity = \"warn\"\n", "select 1 as id"));
    sandbox.write("both/b.sql", &check("b", "", "select 1 / 0 as id"));
    for (folder, flags, code) in [
        ("warns", "", 1),
        ("warns", "--strict", 2),
        ("breaks", "", 3),
        ("breaks", "--inconclusive fail", 2),
        ("breaks", "--inconclusive warn", 1),
        ("breaks", "--inconclusive ok", 0),
        ("breaks", "--inconclusive warn --strict", 2),
        ("fails", "--inconclusive ok", 2),
        ("both", "", 3),
        ("both", "--strict", 2),
        ("both", "--inconclusive fail", 2),
        ("both", "--inconclusive warn", 1),
        ("both", "--inconclusive ok", 1),
        ("both", "--inconclusive warn --strict", 2),
        ("both", "--inconclusive ok --strict", 2),
    ] {
        sandbox
            .run(&format!("verify {folder} --url {} {flags}", server.url()))
            .exits(code);
    }
}

#[test]
fn on_a_standby_checks_are_decided_and_what_it_cannot_do_is_said() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t as select n as id from generate_series(1, 3) n");
    let standby = Standby::of(&server, &sandbox.dir().join("standby"));
    standby.catch_up();
    sandbox.write(
        "checks/a.sql",
        &check("a", "-- run_on = \"primary\"\n", "select 1 as id"),
    );
    sandbox.write(
        "checks/b.sql",
        &check("b", "-- run_on = \"standby\"\n", "select id from t"),
    );
    let url = standby.url_of("postgres@/postgres");
    let report = sandbox
        .run(&format!("verify checks --url {url} --format json"))
        .exits(2)
        .json();
    assert_eq!(of(&report, "a")["decision"], "skipped");
    assert_eq!(of(&report, "b")["count"], 3);
    let database = &report["databases"][0];
    assert_eq!(database["standby"], true);
    assert!(
        database["snapshots"][0]["lsn"].is_string() && database["snapshots"][0]["xmin_age"].is_i64(),
        "{database}"
    );
    sandbox
        .run(&format!("verify checks --url {url} --deferrable"))
        .exits(64)
        .complains(&["a standby has no serializable snapshots", "--deferrable"]);
}

#[test]
fn what_a_standby_has_to_cut_off_is_looked_at_on_another_snapshot() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t as select n as id from generate_series(1, 1000) n; create table done (id int)");
    let standby = Standby::of(&server, &sandbox.dir().join("standby"));
    let here = Database::connect(&standby.url_of("postgres@/postgres"));
    // it gives way at once
    here.exec("alter system set max_standby_streaming_delay = 0");
    here.exec("select pg_reload_conf()");
    wait_until("the setting", Duration::from_secs(20), || {
        here.value("show max_standby_streaming_delay") == "0"
    });
    standby.catch_up();
    // sleeps until there is a row in `done`, which it sees on a later snapshot only
    write(
        &sandbox,
        &[
            ("a_reads", "select id from t where id < 0"),
            (
                "b_sleeps",
                "select id from t where id = 1 and exists (select from pg_sleep(case when exists (select from done) then 0 else 600 end))",
            ),
        ],
    );
    let url = standby.url_of("postgres@/postgres");
    let run = sandbox.start(&format!(
        "verify checks --jobs 2 --timeout 1m --url {url} --format json"
    ));
    let sleeping = "exists (select from pg_stat_activity where wait_event = 'PgSleep')";
    wait_until("the check", Duration::from_secs(20), || here.is(sleeping));
    // the snapshot still needs the rows that vacuum takes away
    server.exec("insert into done values (1); delete from t where id > 500");
    server.exec("vacuum (freeze) t");
    let report = run.wait().exits(2).json();
    let sleeper = of(&report, "b_sleeps");
    assert_eq!(
        (&sleeper["decision"], &sleeper["snapshot"]),
        (&json!("violated"), &json!(1)),
        "{sleeper:#}"
    );
    assert_eq!(of(&report, "a_reads")["decision"], "held");
    assert_eq!(snapshots(&report), 2, "{:#}", report["databases"]);
    drop(here);
    drop(standby);
    assert_eq!(postgres_in(&sandbox.dir().join("standby")), [0; 0]);
}
