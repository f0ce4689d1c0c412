//! What is wrong with files, command lines and servers is said in a message that helps, with the right exit code.
//!
//! Nothing of it panics or leaves anything behind: `Sandbox::run` sees to that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::run::Run;
use common::{Sandbox, TestServer};
use db_race::postgres::server::Options;

const USAGE: i32 = 64;
const UNREACHABLE: i32 = 69;

/// The least scenario that is right. It has no system.
const GOOD: &str = r#"title = "t"
[keys]
sql = "select 1 as id"
[[sessions]]
name     = "a"
sessions = 2
steps    = [{ name = "act", sql = "select :id::int" }]
[expect]
"act.accepted" = "== 2 per key"
"#;

/// Races the good scenario with a piece of it replaced.
fn race(sandbox: &Sandbox, server: &TestServer, from: &str, to: &str) -> Run {
    assert!(GOOD.contains(from), "{from}");
    let file = sandbox.write("bad.toml", &GOOD.replace(from, to));
    sandbox.run(&format!("contend {file} --url {}", server.url()))
}

#[test]
fn names_that_do_not_exist_get_the_nearest() {
    let sandbox = Sandbox::new();
    for (words, parts) in [
        ("contend last-rom", &["last-rom", "did you mean `last-room`?"][..]),
        ("contend nothing-like-it", &["nothing-like-it", "db-race list"]),
        ("contend ./missing.toml", &["missing.toml"]),
        (
            "contend last-room --bug unlocked-raed",
            &["unlocked-raed", "did you mean `unlocked-read`?"],
        ),
        (
            "contend last-room --bug nothing-like-it",
            &["nothing-like-it", "`unlocked-read`"],
        ),
        (
            "contend last-room --sessions gest=3",
            &["--sessions gest=3", "did you mean `guest`?"],
        ),
        (
            "contend expired-hold --sessions 3",
            &["--sessions 3", "`guest`", "GROUP=N"],
        ),
        (
            "verify hotel/orphan_hold",
            &["orphan_hold", "did you mean `hotel/orphan_holds`?"],
        ),
        ("verify nothing-like-it", &["nothing-like-it", "db-race list"]),
        ("server hotl", &["hotl", "did you mean `hotel`?"]),
    ] {
        sandbox.run(words).exits(USAGE).complains(parts);
    }
}

#[test]
fn a_wrong_command_line_is_told_what_was_expected() {
    let sandbox = Sandbox::new();
    for (words, parts) in [
        ("", &["Usage"][..]),
        ("contendd last-room", &["contendd", "contend"]),
        ("contend", &["<SCENARIO>"]),
        ("contend last-room --sesions 3", &["--sesions", "--sessions"]),
        ("contend last-room --rounds 0", &["--rounds", "0"]),
        ("contend last-room --rounds many", &["--rounds", "many"]),
        ("contend last-room --pool 0", &["--pool", "0"]),
        ("contend last-room --gate open", &["open", "none", "start", "write"]),
        ("contend last-room --sessions 0", &["--sessions 0", "from 1 to"]),
        ("contend last-room --sessions many", &["--sessions many", "from 1 to"]),
        ("contend last-room --format xml", &["xml", "json"]),
        ("verify", &["<CHECKS>"]),
        ("verify hotel --timeout soon", &["soon", "500ms"]),
        ("verify hotel --jobs 0", &["--jobs", "0"]),
    ] {
        sandbox.run(words).exits(USAGE).complains(parts);
    }
    let help = sandbox.run("--help").exits(0);
    assert!(help.stdout.contains("Exit codes:") && help.stderr.is_empty(), "{help}");
    sandbox.run("--version").exits(0).shows(&[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn a_wrong_scenario_file_is_shown_at_its_place() {
    let sandbox = Sandbox::new();
    for (from, to, parts) in [
        ("[expect]", "[expect", &["bad.toml:8:"][..]),
        (
            "title = \"t\"",
            "titel = \"t\"",
            &["bad.toml:1:1", "unknown field `titel`", "did you mean `title`?"],
        ),
        (
            "sessions = 2",
            "sesions = 2",
            &["bad.toml:6:1", "did you mean `sessions`?"],
        ),
        ("sessions = 2", "", &["bad.toml", "sessions"]),
        ("sessions = 2", "sessions = \"2\"", &["bad.toml:6:", "expected u32"]),
        (
            "sessions = 2",
            "sessions = 2\ngate = \"wirte\"",
            &["bad.toml:7:", "did you mean `write`?"],
        ),
        (
            ":id::int",
            ":idd::int, :id",
            &[
                "bad.toml:7:",
                "nothing provides the parameter `:idd`",
                "did you mean `id`?",
            ],
        ),
        (
            "\"act.accepted\"",
            "\"act.acepted\"",
            &["bad.toml:9:1", "did you mean `act.accepted`?"],
        ),
        ("== 2 per key", "= 2", &["bad.toml:9:", "== 1 per key"]),
        (
            "title = \"t\"",
            "title = \"t\"\nsystem = \"hotl\"",
            &["bad.toml:2:", "did you mean `hotel`?"],
        ),
        (
            "title = \"t\"",
            "title = \"t\"\nchecks = [\"hotell\"]",
            &["bad.toml:2:", "did you mean `hotel`?"],
        ),
        (
            "title = \"t\"",
            "title = \"t\"\n[params]\nn = { int = [2, 1] }",
            &["bad.toml:3:", "int = [1, 7]"],
        ),
    ] {
        let server = needs_a_server(to).then(|| sandbox.server());
        let url = server
            .as_ref()
            .map_or("postgresql://x@/x?host=/nowhere".into(), TestServer::url);
        assert!(GOOD.contains(from), "{from}");
        let file = sandbox.write("bad.toml", &GOOD.replace(from, to));
        sandbox
            .run(&format!("contend {file} --url {url}"))
            .exits(USAGE)
            .complains(parts);
    }
    let file = sandbox.dir().join("binary.toml");
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    sandbox
        .run(&format!("contend {}", file.display()))
        .exits(USAGE)
        .complains(&["UTF-8"]);
}

/// Which names a keys query returns is known to the server only.
fn needs_a_server(change: &str) -> bool {
    change.contains(":idd")
}

#[test]
fn wrong_sql_in_a_scenario_is_shown_at_its_place_with_the_reason_of_the_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for (from, to, parts) in [
        (
            "select :id::int",
            "selct :id::int",
            &["bad.toml:7:", "syntax error", "42601"][..],
        ),
        (
            "select :id::int",
            "select no_such_procedure(:id)",
            &["bad.toml:7:", "no_such_procedure", "42883"],
        ),
        (
            "select :id::int",
            "call no_such_procedure(:id)",
            &["bad.toml:7:", "no_such_procedure", "42883"],
        ),
        (
            "select :id::int",
            "select :id::int from no_such_table",
            &["bad.toml:7:", "no_such_table", "42P01"],
        ),
        (
            "select :id::int",
            "select 1; select :id::int",
            &["bad.toml:7:", "42601"],
        ),
        (
            "select 1 as id",
            "select 1 as id from no_such_table",
            &["bad.toml:3:", "no_such_table", "42P01"],
        ),
        (
            "select 1 as id",
            "select 1 / 0 as id",
            &["bad.toml:3:", "division by zero", "22012"],
        ),
        (
            "title = \"t\"",
            "title = \"t\"\nsetup = \"delete from no_such_table\"",
            &["bad.toml:2:", "no_such_table", "42P01"],
        ),
        (
            "title = \"t\"",
            "title = \"t\"\nsetup = \"select 1;\\nselect 1/0\"",
            &["bad.toml:2:", "division by zero", "22012"],
        ),
    ] {
        race(&sandbox, &server, from, to).exits(USAGE).complains(parts);
    }
}

#[test]
fn a_wrong_check_file_is_shown_at_its_place() {
    let sandbox = Sandbox::new();
    let good = "-- /// db-race check\n-- id = \"c\"\n-- title = \"t\"\n-- ///\nselect 1 as id\n";
    for (from, to, parts) in [
        (good, "select 1\n", &["bad.sql", "db-race check"][..]),
        ("-- ///\nselect", "select", &["bad.sql", "-- ///"]),
        (
            "-- title",
            "-- titel",
            &["bad.sql:3:", "unknown field `titel`", "did you mean `title`?"],
        ),
        ("-- title = \"t\"\n", "", &["bad.sql", "title"]),
        (
            "\"t\"",
            "\"t\"\n-- severity = \"wran\"",
            &["bad.sql:4:", "did you mean `warn`?"],
        ),
        ("\"t\"", "\"t", &["bad.sql:3:"]),
    ] {
        assert!(good.contains(from), "{from}");
        let file = sandbox.write("bad.sql", &good.replace(from, to));
        sandbox.run(&format!("verify {file}")).exits(USAGE).complains(parts);
    }
    std::fs::create_dir(sandbox.dir().join("empty")).unwrap();
    sandbox.run("verify empty").exits(USAGE).complains(&["empty", ".sql"]);
}

#[test]
fn a_system_that_does_not_install_is_shown_at_its_place() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "mine/schema.sql",
        "create table t (id int);\n\ncreate table u (id intt);\n",
    );
    let file = sandbox.write("own.toml", &GOOD.replace("title", "system = \"mine\"\ntitle"));
    sandbox
        .run(&format!("contend {file}"))
        .exits(USAGE)
        .complains(&["mine/schema.sql:3:", "intt", "42704"]);
}

#[test]
fn what_needs_a_database_or_a_system_says_so() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("good.toml", GOOD);
    sandbox
        .run(&format!("contend {file}"))
        .exits(USAGE)
        .complains(&["--url", "DATABASE_URL"]);
    sandbox
        .run(&format!(
            "contend {file} --url postgresql://x@/x?host=/nowhere --bug unlocked-read"
        ))
        .exits(USAGE)
        .complains(&["--bug unlocked-read", "no system"]);
    let check = "-- /// db-race check\n-- id = \"c\"\n-- title = \"t\"\n-- ///\nselect 1 as id\n";
    let file = sandbox.write("own.sql", check);
    sandbox
        .run(&format!("verify {file}"))
        .exits(USAGE)
        .complains(&["--url", "DATABASE_URL"]);
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("good.toml", GOOD);
    let nowhere = "postgresql://me@/mine?host=/nowhere";
    // port 1 is nobody's, and refuses at once
    let refused = "postgresql://me@127.0.0.1:1/mine";
    for (words, address) in [
        (format!("contend {file} --url {nowhere}"), "me@/nowhere:5432/mine"),
        (format!("contend {file} --url {refused}"), "me@127.0.0.1:1/mine"),
        (format!("contend last-room --url {refused}"), "me@127.0.0.1:1/mine"),
        (format!("verify hotel --url {refused}"), "me@127.0.0.1:1/mine"),
        (
            "verify hotel --url postgresql://me@no-such-host.invalid/mine".into(),
            "me@no-such-host.invalid:5432/mine",
        ),
    ] {
        sandbox
            .run(&words)
            .exits(UNREACHABLE)
            .complains(&["cannot connect to", address]);
    }
    let server = sandbox.server();
    sandbox
        .run(&format!(
            "verify hotel --url {}",
            server.url_of("postgres@/no_such_database")
        ))
        .exits(UNREACHABLE)
        .complains(&["no_such_database", "3D000", "database name"]);
}

#[test]
fn a_wrong_connection_string_is_wrong_usage_and_not_repeated() {
    let sandbox = Sandbox::new();
    for (url, expected) in [
        ("nonsense", "expected like postgresql://user@host:5432/database"),
        ("sEcReT@host", "expected like postgresql://user@host:5432/database"),
        ("postgresql://me:sEcReT@host:port/db", "port: entry 1 is no port"),
        ("postgresql://me:sEcReT@host?sEcReT=1", "there is no such parameter"),
        ("host=x password=sEcReT port=many", "port: entry 1 is no port"),
        (
            "host=x password=very sEcReT",
            "a value with spaces stands in single quotes",
        ),
        ("host=x password=very sEcReT=1", "there is no such parameter"),
        ("host=x password='sEcReT", "the quote of `password`"),
    ] {
        for words in [&["contend", "last-room"][..], &["verify", "hotel"]] {
            let words = [words, &["--url", url]].concat();
            let run = sandbox.run_command(sandbox.command_of(&words)).exits(USAGE);
            let run = run.complains(&["--url: ", expected]);
            assert!(!run.stderr.contains("sEcReT"), "{run}");
        }
    }
}

/// A server that asks everybody but its superuser for a password.
fn with_passwords(sandbox: &Sandbox) -> TestServer {
    let hba = sandbox.write("hba.conf", "local all postgres trust\nlocal all all scram-sha-256\n");
    let server = sandbox.server_with(Options {
        settings: vec![
            ("hba_file".into(), hba),
            // PostgreSQL 13 keeps md5 unless it is told
            ("password_encryption".into(), "scram-sha-256".into()),
        ],
        ..Options::default()
    });
    server.exec("create role guest login createdb password 'rIgHt'");
    server
}

#[test]
fn a_wrong_password_is_unreachable_and_no_password_is_ever_shown() {
    let sandbox = Sandbox::new();
    let server = with_passwords(&sandbox);
    let file = sandbox.write("good.toml", GOOD);
    for (words, password) in [
        (format!("contend {file}"), ":wRoNg"),
        ("contend last-room".into(), ":wRoNg"),
        ("verify hotel".into(), ":wRoNg"),
        ("verify hotel".into(), ""),
    ] {
        let url = server.url_of(&format!("guest{password}@/postgres"));
        let run = sandbox.run(&format!("{words} --url {url}")).exits(UNREACHABLE);
        let run = run.complains(&["cannot connect to guest@", "password"]);
        assert!(!run.stderr.contains("wRoNg"), "{run}");
    }
    for format in ["text", "json"] {
        let url = server.url_of("guest:rIgHt@/postgres");
        for words in [format!("contend {file}"), "contend last-room --rounds 1".into()] {
            let run = sandbox.run(&format!("{words} --url {url} --format {format}")).exits(0);
            assert!(!run.stdout.contains("rIgHt") && !run.stderr.contains("rIgHt"), "{run}");
            assert!(run.stdout.contains("guest@"), "who it was is shown\n{run}");
        }
    }
}

#[test]
fn too_few_connections_for_the_sessions_is_known_before_anything_is_raced() {
    let sandbox = Sandbox::new();
    let server = sandbox.server_with(Options {
        max_connections: 20,
        ..Options::default()
    });
    server.exec("create table called (id int)");
    let scenario = GOOD
        .replace("select :id::int", "insert into called values (:id)")
        .replace("sessions = 2", "sessions = 50");
    let file = sandbox.write("many.toml", &scenario);
    sandbox
        .run(&format!("contend {file} --url {}", server.url()))
        .exits(UNREACHABLE)
        .complains(&["connections free", "50 for its pool", "--pool", "max_connections"]);
    assert_eq!(server.value("select count(*) from called"), "0");
    // a smaller pool is what the message advises
    let expected = scenario.replace("== 2", "== 50");
    let file = sandbox.write("many.toml", &expected);
    sandbox
        .run(&format!("contend {file} --url {} --pool 10", server.url()))
        .exits(0);
    assert_eq!(server.value("select count(*) from called"), "100", "control and race");
}

#[test]
fn a_directory_without_postgresql_is_named() {
    let sandbox = Sandbox::new();
    let empty = sandbox.dir().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for words in ["contend last-room", "verify hotel", "server"] {
        let run = sandbox
            .run(&format!("{words} --pg-bin {}", empty.display()))
            .exits(UNREACHABLE);
        run.complains(&[empty.to_str().unwrap(), "initdb", "pg_config --bindir"]);
    }
}

#[test]
fn no_keys_is_no_data() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let run = race(&sandbox, &server, "select 1 as id", "select 1 as id where false").exits(3);
    assert!(
        run.stdout.contains("INCONCLUSIVE") && run.stdout.contains("key"),
        "{run}"
    );
}
