//! Several servers under one name.

use std::net::TcpListener;
use std::path::PathBuf;

use db_race::postgres::server::Options;

use crate::common::free_port;
use crate::common::standby::Standby;
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

#[test]
fn a_session_is_asked_what_it_can_do() {
    let site = Site::new();
    let primary = site.sandbox.server();
    primary.exec("create role reads login");
    let standby_dir = site.sandbox.dir().join("standby");
    let _standby = Standby::of(&primary, &standby_dir);
    // one that only reads, by its settings
    let reader = site.sandbox.server_with(Options {
        settings: vec![("default_transaction_read_only".into(), "on".into())],
        ..Options::default()
    });
    let of = |dir: PathBuf| dir.display().to_string();
    let (writes, stands_by, reads) = (of(primary.socket_dir()), of(standby_dir), of(reader.socket_dir()));
    let found = |attributes: &str, hosts: &[&str]| {
        let url = format!(
            "host={} user=postgres target_session_attrs={attributes}",
            hosts.join(",")
        );
        site.verify(&["--url", &url], &[])
    };
    let (writes, stands_by, reads) = (writes.as_str(), stands_by.as_str(), reads.as_str());
    for (attributes, hosts, expected) in [
        ("any", vec![stands_by, writes], Ok(stands_by)),
        ("read-write", vec![stands_by, reads, writes], Ok(writes)),
        ("read-only", vec![writes, reads, stands_by], Ok(reads)),
        ("primary", vec![stands_by, reads, writes], Ok(reads)),
        ("standby", vec![writes, reads, stands_by], Ok(stands_by)),
        ("prefer-standby", vec![writes, stands_by], Ok(stands_by)),
        ("prefer-standby", vec![writes, reads], Ok(writes)),
        ("standby", vec![writes, reads], Err("the server is not a standby")),
        ("primary", vec![stands_by], Err("the server is a standby")),
        ("read-write", vec![stands_by, reads], Err("the session is read-only")),
        ("read-only", vec![writes], Err("the session is not read-only")),
    ] {
        let run = found(attributes, &hosts);
        match expected {
            Ok(dir) => drop(run.exits(0).shows(&[&format!("postgres@{dir}:5432/")])),
            Err(why) => drop(run.exits(REFUSED).complains(&[why])),
        }
    }
}
