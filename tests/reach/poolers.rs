//! Through PgBouncer.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::database::Database;
use crate::common::run::{Running, rule};
use crate::common::{TestServer, free_port, wait_until};
use crate::site::{Site, check};

/// A PgBouncer before a server, for its superuser.
struct Pooler {
    process: Child,
    port: u16,
}

impl Pooler {
    /// `None`, said aloud, where there is no PgBouncer.
    fn before(server: &TestServer, site: &Site, mode: &str, size: u32) -> Option<Pooler> {
        let Some(program) = program() else {
            // not by eprintln, which is shown of failed tests only
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: there is no pgbouncer here; scripts/ensure-test-tools installs it"
            );
            return None;
        };
        let (user, group) = server.account();
        let dir = site.sandbox.dir().join(format!("pooler-{mode}-{size}"));
        fs::create_dir(&dir).unwrap();
        chown(&dir, Some(user), Some(group)).unwrap();
        let port = free_port();
        let users = dir.join("users").display().to_string();
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let config = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {users}\npool_mode = {mode}\ndefault_pool_size = {size}\nlogfile = {}\n",
            server.socket_dir().display(),
            server.port(),
            dir.join("log").display()
        );
        fs::write(dir.join("ini"), config).unwrap();
        let mut command = Command::new(program);
        if nix::unistd::geteuid().is_root() {
            command.uid(user).gid(group);
        }
        let process = command
            .arg(dir.join("ini"))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Pooler { process, port };
        wait_until("pgbouncer answers", Duration::from_secs(20), || {
            Database::try_connect(&pooler.url()).is_some()
        });
        Some(pooler)
    }

    fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Debian has it where only root looks.
fn program() -> Option<&'static str> {
    let works = |program: &&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["pgbouncer", "/usr/sbin/pgbouncer"].into_iter().find(works)
}

fn is_older_than(major: u32, minor: u32) -> bool {
    let output = Command::new(program().unwrap()).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    // PgBouncer 1.18.0
    let version = said.split_whitespace().nth(1).unwrap();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap());
    (parts.next().unwrap(), parts.next().unwrap()) < (major, minor)
}

#[test]
fn checks_are_run_through_it_in_both_modes_again_and_again() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    server.exec(
        "create type mood as enum ('good', 'bad'); create domain level as int check (value > 0);
         create table people (id int primary key, mood mood, level level); insert into people values (1, 'bad', 1)",
    );
    // types that no client knows beforehand
    check(
        &site.sandbox,
        "checks/bad",
        "select id, mood, level from people where mood = 'bad'",
    );
    check(&site.sandbox, "checks/good", "select mood from people where false");
    check(&site.sandbox, "checks/wrong", "select nothing from nowhere");
    check(&site.sandbox, "checks/late", "select pg_sleep(30)");
    for mode in ["transaction", "session"] {
        let Some(pooler) = Pooler::before(&server, &site, mode, 5) else {
            return;
        };
        for round in 0..4 {
            let words = [
                "verify",
                "checks",
                "--jobs",
                "3",
                "--timeout",
                "300ms",
                "--format",
                "json",
                "--url",
                &pooler.url(),
            ];
            let report = site.run(&words, &[]).exits(2).json();
            let decisions: Vec<(&str, &str)> = report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|check| (check["id"].as_str().unwrap(), check["decision"].as_str().unwrap()))
                .collect();
            let expected = [
                ("checks/bad", "violated"),
                ("checks/good", "held"),
                ("checks/late", "could_not_decide"),
                ("checks/wrong", "could_not_decide"),
            ];
            assert_eq!(decisions, expected, "{mode}, round {round}: {report:#}");
        }
    }
}

#[test]
fn a_pool_that_is_too_small_for_all_workers_is_no_reason_to_wait_for_ever() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    check(&site.sandbox, "checks/good", "select 1 where false");
    check(&site.sandbox, "checks/fine", "select 1 where false");
    check(&site.sandbox, "checks/right", "select 1 where false");
    let Some(pooler) = Pooler::before(&server, &site, "transaction", 1) else {
        return;
    };
    let run = Running::start(site.command(&["verify", "checks", "--jobs", "3", "--url", &pooler.url()], &[]));
    run.wait_at_most(Duration::from_secs(60)).exits(0);
}

#[test]
fn advisory_locks_of_checks_do_not_stay_on_its_connections_and_those_of_others_do() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    check(&site.sandbox, "checks/locks", "select pg_advisory_lock(1)");
    let Some(pooler) = Pooler::before(&server, &site, "transaction", 1) else {
        return;
    };
    let run = || site.run(&["verify", "checks", "--jobs", "1", "--url", &pooler.url()], &[]);
    let held = || server.rows("select objid from pg_locks where locktype = 'advisory' order by 1");
    run().exits(2);
    assert_eq!(held(), [[""; 0]; 0]);
    // on the one connection that the check will be on
    Database::connect(&pooler.url()).exec("select pg_advisory_lock(42)");
    run().exits(2);
    assert!(held().contains(&vec!["42".to_string()]), "{:?}", held());
}

#[test]
fn a_race_goes_through_it_where_sessions_are_its_own() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    let Some(sessions) = Pooler::before(&server, &site, "session", 40) else {
        return;
    };
    let race = |url: &str, flags: &[&str]| {
        let words = [
            "contend",
            "last-room",
            "--rounds",
            "1",
            "--sessions",
            "10",
            "--format",
            "json",
            "--url",
            url,
        ];
        site.run(&[&words, flags].concat(), &[])
    };
    race(&sessions.url(), &[]).exits(0);
    let report = race(&sessions.url(), &["--bug", "unlocked-read"]).exits(2).json();
    assert_eq!(rule(&report, "hold.accepted")["state"], "broken");
    let few = Pooler::before(&server, &site, "session", 5).unwrap();
    let run = race(&few.url(), &[]).exits(69);
    run.complains(&[
        "the pooler at postgres@127.0.0.1",
        "server connections",
        "raise its default_pool_size",
    ]);
    for size in [5, 1] {
        let transactions = Pooler::before(&server, &site, "transaction", size).unwrap();
        let run = race(&transactions.url(), &[]).exits(69);
        run.complains(&[
            "one transaction at a time",
            "pool_mode = session",
            "`verify` works here",
        ]);
    }
    let left = server.value("select count(*) from pg_database where datname like 'db_race%'");
    assert_eq!(left, "0", "the databases made for the runs are gone");
}

#[test]
fn a_check_is_cancelled_through_it() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    check(&site.sandbox, "slow", "select 1 where pg_sleep(600) is null");
    let Some(pooler) = Pooler::before(&server, &site, "transaction", 5) else {
        return;
    };
    let words = ["verify", "slow.sql", "--timeout", "10m", "--url", &pooler.url()];
    let mut run = Running::start(site.command(&words, &[]));
    let sleeps = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep') = 1";
    wait_until("the check runs", Duration::from_secs(30), || server.is(sleeps));
    run.signal(Signal::SIGINT);
    wait_until("the run ends", Duration::from_secs(20), || run.has_ended());
    let run = run.wait().exits(130);
    wait_until(
        &format!("the check's end on the server\n{run}"),
        Duration::from_secs(10),
        || !server.is(sleeps),
    );
    let log = server.log();
    assert!(log.contains("canceling statement due to user request"), "{log}");
    assert!(!log.contains("terminating connection"), "{log}");
}

#[test]
fn what_it_does_not_take_is_named() {
    let site = Site::new();
    let server = site
        .sandbox
        .listening_server(db_race::postgres::server::Options::default());
    let Some(pooler) = Pooler::before(&server, &site, "transaction", 5) else {
        return;
    };
    let url = pooler.url();
    site.verify(&["--url", &url], &[]).exits(0);
    if is_older_than(1, 20) {
        let run = site
            .verify(&["--url", &url], &[("PGOPTIONS", "-c work_mem=64MB")])
            .exits(69);
        run.complains(&["startup parameter: options", "leave them out"]);
    }
}
