//! No password is ever shown.

use std::fs;
use std::time::Duration;

use crate::certificates::self_signed;
use crate::common::run::Running;
use crate::common::wait_until;
use crate::site::{Site, check};

/// Wrong, right and in the wrong place.
const SECRETS: [&str; 2] = ["rIgHt", "wRoNg"];

#[test]
fn nothing_that_is_said_holds_a_password() {
    let site = Site::new();
    let root = self_signed(site.sandbox.dir(), "root", "db.test");
    let server = site.tls_server(&root);
    let port = server.port();
    site.private(
        "home/.pg_service.conf",
        &format!("[s]\nhost=127.0.0.1\nport={port}\nuser=scram\npassword=wRoNg\n[half]\nhost=h\nwRoNg\n"),
    );
    let urls = [
        format!("postgresql://scram:rIgHt@127.0.0.1:{port}/postgres"),
        format!("postgresql://scram:wRoNg@127.0.0.1:{port}/postgres"),
        "postgresql://scram:wRoNg@127.0.0.1:1/postgres".into(),
        "postgresql://scram:wRoNg@nowhere.invalid/postgres".into(),
        format!("postgresql://scram:wRoNg@127.0.0.1:{port},127.0.0.1:1/nowhere"),
        format!("postgresql://scram:rIgHt@127.0.0.1:{port}/nowhere"),
        format!("postgresql://scram:rIgHt@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert=/wrong"),
        format!("host=127.0.0.1 port={port} user=scram dbname=postgres password=rIgHt wRoNg"),
        format!("host=127.0.0.1 port={port} user=scram dbname=postgres password=rIgHt wRoNg=1"),
        format!("host=127.0.0.1 port={port} user=scram dbname=postgres password='rIgHt"),
        "postgresql://scram:wRoNg%zz@h".into(),
        "postgresql://scram:wRoNg/rIgHt@h/d".into(),
        "postgresql://scram:wRoNg@h:rIgHt/d".into(),
        "postgresql://scram:wRoNg@h?wRoNg=1".into(),
        "postgresql://h?password=wRoNg&x".into(),
        "service=s".into(),
        "service=half".into(),
        "wRoNg".into(),
    ];
    let commands: [&[&str]; 5] = [
        &["verify", "fine.sql"],
        &["verify", "fine.sql", "--format", "json"],
        &["contend", "last-room", "--rounds", "1"],
        &["contend", "last-room", "--rounds", "1", "--format", "json"],
        &["sweep", "too-small", "--pool", "1,2", "--sessions", "2"],
    ];
    let mut worked = 0;
    for url in &urls {
        let is_right = url.contains("rIgHt@127.0.0.1") && url.ends_with("/postgres");
        for command in commands {
            // the slow ones only where they find out more than the quick ones
            if command[0] != "verify" && (command.contains(&"json") || command[0] == "sweep") && !is_right {
                continue;
            }
            // a word alone is a database's name to -d
            let flags = match *url != "wRoNg" && command.len() == 2 {
                true => &["--url", "-d"][..],
                false => &["--url"],
            };
            for flag in flags {
                let words = [command, &[flag, url]].concat();
                let run = site.run(&words, &[]);
                for secret in SECRETS {
                    assert!(
                        !run.stdout.contains(secret) && !run.stderr.contains(secret),
                        "{secret}\n{run}"
                    );
                }
                assert_ne!(run.code, Some(2), "{run}");
                worked += usize::from(run.code == Some(0));
            }
        }
    }
    assert!(worked >= 5, "the right password lets commands in: {worked}");
    for variables in [
        ("PGPASSWORD", "wRoNg"),
        ("DATABASE_URL", "postgresql://u:wRoNg@127.0.0.1:1/d"),
        ("PGPORT", "wRoNg"),
    ] {
        let run = site.verify(&[], &[("PGHOST", "127.0.0.1"), ("PGUSER", "scram"), variables]);
        assert!(!run.stdout.contains("wRoNg") && !run.stderr.contains("wRoNg"), "{run}");
    }
    // where no connection string belongs
    for words in [
        &["verify", "postgresql://u:wRoNg@h/d"][..],
        &["contend", "postgresql://u:wRoNg@h/d"],
        &["contend", "last-room", "postgresql://u:wRoNg@h/d"],
        &["verify", "fine.sql", "--jobs", "postgresql://u:wRoNg@h/d"],
    ] {
        let run = site.run(words, &[]).exits(64);
        assert!(!run.stdout.contains("wRoNg") && !run.stderr.contains("wRoNg"), "{run}");
    }
}

/// What other users see of running processes: the arguments.
#[cfg(target_os = "linux")]
#[test]
fn no_process_has_the_password_as_an_argument() {
    let site = Site::new();
    let server = site.server();
    // one that no other test names
    server.exec("set password_encryption = 'scram-sha-256'; alter role scram password 'hIdDeN'");
    let port = server.port().to_string();
    check(&site.sandbox, "slow", "select 1 where pg_sleep(600) is null");
    let words = [
        "verify",
        "slow.sql",
        "--jobs",
        "1",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "scram",
        "-d",
        "postgres",
    ];
    let run = Running::start(site.command(&words, &[("PGPASSWORD", "hIdDeN")]));
    let sleeps = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep') = 1";
    wait_until("the check runs", Duration::from_secs(30), || server.is(sleeps));
    let mut seen = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = fs::read(process.path().join("cmdline")) else {
            continue;
        };
        seen += usize::from(!line.is_empty());
        assert!(
            !String::from_utf8_lossy(&line).contains("hIdDeN"),
            "{:?}",
            process.path()
        );
    }
    assert!(seen > 2);
    run.signal(nix::sys::signal::Signal::SIGINT);
    run.wait().exits(130);
    let told = "(select count(*) from pg_stat_activity where query like '%hIdDeN%' and pid <> pg_backend_pid()) = 0";
    assert!(server.is(told), "nor a statement");
}
