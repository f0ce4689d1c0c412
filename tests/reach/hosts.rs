//! Several servers under one name.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::database::Database;
use crate::common::{TestServer, free_port, wait_until};
use crate::site::{Site, check};

const REFUSED: i32 = 69;

#[test]
fn hosts_are_tried_in_turn_each_with_its_own_password_and_time() {
    let site = Site::new();
    let server = site.server();
    let (dead, live) = (free_port(), server.port());
    // takes connections and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    site.private(
        "home/.pgpass",
        &format!("*:{dead}:*:*:wRoNg\n*:{live}:*:*:rIgHt\n*:*:*:*:wRoNg\n"),
    );
    let ports = format!("{dead},{live}");
    let at = [
        "-h",
        "127.0.0.1,127.0.0.1",
        "-p",
        &ports,
        "-U",
        "scram",
        "-d",
        "postgres",
    ];
    site.verify(&at, &[])
        .exits(0)
        .shows(&[&format!("scram@127.0.0.1:{live}/postgres")]);
    let url = format!(
        "postgresql://scram@nowhere.invalid,127.0.0.1:{dead},127.0.0.1:{silent},127.0.0.1:{live}/postgres?connect_timeout=1"
    );
    site.verify(&["--url", &url], &[])
        .exits(0)
        .shows(&[&format!("scram@127.0.0.1:{live}/postgres")]);
    // nobody is there
    let url = format!("postgresql://scram@127.0.0.1:{dead},127.0.0.1:{silent}/postgres?connect_timeout=1");
    let run = site.verify(&["--url", &url], &[]).exits(REFUSED);
    run.complains(&[
        &format!("scram@127.0.0.1:{dead},127.0.0.1:{silent}/postgres"),
        &format!("127.0.0.1:{dead}: Connection refused"),
        &format!("127.0.0.1:{silent}: no answer within 1s"),
    ]);
    // a server that refuses the user has spoken for all
    let url = format!("postgresql://scram:wRoNg@127.0.0.1:{live},127.0.0.1:{dead}/postgres");
    let run = site.verify(&["--url", &url], &[]).exits(REFUSED);
    run.complains(&["password authentication failed"]);
}

#[test]
fn a_run_stays_with_the_server_that_it_found() {
    let site = Site::new();
    let servers = [site.server(), site.server()];
    for (server, name) in servers.iter().zip(["one", "two"]) {
        server.exec(&format!(
            "create table who (name text); insert into who values ('{name}'); grant select on who to anybody"
        ));
    }
    for id in ["a", "b", "c", "d", "e", "f"] {
        check(&site.sandbox, &format!("who/{id}"), "select name from who");
    }
    let ports = format!("{},{}", servers[0].port(), servers[1].port());
    let url = format!("host=127.0.0.1,127.0.0.1 port={ports} user=anybody dbname=postgres load_balance_hosts=random");
    let mut met = [false, false];
    // it would take some luck to meet the same one so often
    for _ in 0..40 {
        let run = site
            .run(
                &["verify", "who", "--jobs", "4", "--format", "json", "--url", &url],
                &[],
            )
            .exits(2);
        let (one, two) = (run.stdout.contains("\"one\""), run.stdout.contains("\"two\""));
        assert!(one != two, "{run}");
        met[usize::from(two)] = true;
        if met == [true, true] {
            break;
        }
    }
    assert_eq!(met, [true, true]);
    let run = site.run(&["contend", "last-room", "--rounds", "1", "--url", &url], &[]);
    run.exits(0);
}

/// A hot standby of a server.
struct Standby {
    process: Child,
    port: u16,
}

impl Standby {
    fn of(primary: &TestServer, site: &Site) -> Standby {
        let (user, group) = primary.account();
        let bin = primary.value("select setting from pg_config where name = 'BINDIR'");
        let home = site.sandbox.dir().join("standby");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(user), Some(group)).unwrap();
        let data = home.join("data");
        let as_server = |program: &str| {
            let mut command = Command::new(format!("{bin}/{program}"));
            if nix::unistd::geteuid().is_root() {
                command.uid(user).gid(group);
            }
            command
                .current_dir(&home)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        // a superuser comes by the socket only, and that is closed to others
        primary.exec("create role copier login replication");
        let status = as_server("pg_basebackup")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &primary.port().to_string(),
                "-U",
                "copier",
                "-c",
                "fast",
                "-X",
                "stream",
                "-R",
                "-D",
            ])
            .arg(&data)
            .status()
            .unwrap();
        assert!(status.success(), "pg_basebackup");
        let port = free_port();
        let process = as_server("postgres")
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "hot_standby=on",
                "-c",
                "fsync=off",
                "-c",
            ])
            .arg(format!("unix_socket_directories={}", home.display()))
            .arg("-c")
            .arg(format!("port={port}"))
            .arg("-c")
            .arg(format!("hba_file={}", site.sandbox.dir().join("hba.conf").display()))
            .spawn()
            .unwrap();
        let standby = Standby { process, port };
        let url = format!("host=127.0.0.1 port={port} user=anybody dbname=postgres sslmode=disable");
        wait_until("the standby lets sessions in", Duration::from_secs(60), || {
            Database::try_connect(&url).is_some()
        });
        standby
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.process.wait();
    }
}

#[test]
fn a_session_is_asked_what_it_can_do() {
    let site = Site::new();
    let hba = "local all all trust\nhost replication copier 127.0.0.1/32 trust\nhost all anybody 127.0.0.1/32 trust\n";
    let primary = site.server_with(&[("wal_level", "replica"), ("max_wal_senders", "5")]);
    site.sandbox.write("hba.conf", hba);
    primary.exec("select pg_reload_conf()");
    let standby = Standby::of(&primary, &site);
    // a primary that only reads
    let reader = site.server_with(&[("default_transaction_read_only", "off")]);
    site.sandbox.write("hba.conf", hba);
    reader.exec("alter role anybody set default_transaction_read_only = on");
    let (writes, stands_by, reads) = (primary.port(), standby.port, reader.port());
    check(&site.sandbox, "fine", "select 1 where false");
    let found = |attributes: &str, ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let hosts = vec!["127.0.0.1"; ports.len()].join(",");
        let url = format!(
            "host={hosts} port={} user=anybody dbname=postgres target_session_attrs={attributes}",
            ports.join(",")
        );
        site.verify(&["--url", &url], &[])
    };
    for (attributes, ports, expected) in [
        ("any", vec![stands_by, writes], Some(stands_by)),
        ("read-write", vec![stands_by, reads, writes], Some(writes)),
        ("read-only", vec![writes, reads, stands_by], Some(reads)),
        ("primary", vec![stands_by, reads, writes], Some(reads)),
        ("standby", vec![writes, reads, stands_by], Some(stands_by)),
        ("prefer-standby", vec![writes, stands_by], Some(stands_by)),
        ("prefer-standby", vec![writes, reads], Some(writes)),
        ("standby", vec![writes, reads], None),
        ("read-write", vec![stands_by], None),
    ] {
        let run = found(attributes, &ports);
        match expected {
            Some(port) => drop(run.exits(0).shows(&[&format!("anybody@127.0.0.1:{port}/")])),
            None => drop(run.exits(REFUSED).complains(&[if attributes == "standby" {
                "not a standby"
            } else {
                "read-only"
            }])),
        }
    }
    // checks on a standby work as elsewhere
    check(
        &site.sandbox,
        "standby",
        "select 1 as not_in_recovery where not pg_is_in_recovery()",
    );
    let url = format!("host=127.0.0.1 port={stands_by} user=anybody dbname=postgres");
    site.run(&["verify", "standby.sql", "fine.sql", "--url", &url], &[])
        .exits(0);
}
