//! The memory's file and schema.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{Shop, told};

fn state(shop: &Shop) -> rusqlite::Connection {
    rusqlite::Connection::open(shop.sandbox.dir().join("state.sqlite")).unwrap()
}

#[test]
fn a_file_that_is_not_ours_is_left_as_it_is() {
    let shop = Shop::new();
    let path = shop
        .sandbox
        .write("state.sqlite", "notes of mine\n".repeat(500).as_str());
    let before = fs::read(&path).unwrap();
    shop.audit("")
        .exits(64)
        .complains(&["state.sqlite is not a memory of db-race audit", "no SQLite file"]);
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::remove_file(&path).unwrap();
    state(&shop)
        .execute_batch("create table mine (id int); insert into mine values (1)")
        .unwrap();
    let before = fs::read(&path).unwrap();
    shop.audit("")
        .exits(64)
        .complains(&["it is a SQLite file of another program"]);
    shop.sandbox.run("audit history --state state.sqlite").exits(64);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_file_is_not_used() {
    let shop = Shop::new();
    shop.breaks(&(1..=900).collect::<Vec<_>>());
    shop.result("");
    let path = shop.sandbox.dir().join("state.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 6_000].fill(0xaa);
    fs::write(&path, &bytes).unwrap();
    shop.audit("")
        .exits(64)
        .complains(&["state.sqlite is damaged", "left as it is"]);
    assert!(fs::read(&path).unwrap() == bytes, "it was written to");
}

#[test]
fn a_memory_of_a_newer_program_is_left_alone() {
    let shop = Shop::new();
    shop.result("");
    state(&shop).pragma_update(None, "user_version", 99).unwrap();
    shop.audit("")
        .exits(64)
        .complains(&["written by a newer db-race (its version is 99"]);

    shop.server.exec("create database memory");
    let memory = format!("--state {}", shop.server.url_of("postgres@/memory"));
    let words = format!("audit checks --url {} {memory}", shop.server.url());
    shop.sandbox.run(&words).exits(0);
    let there = crate::common::database::Database::connect(&shop.server.url_of("postgres@/memory"));
    there.exec("update db_race_audit.version set version = 99");
    shop.sandbox
        .run(&words)
        .exits(64)
        .complains(&["newer db-race (its version is 99"]);
    there.exec(
        "drop schema db_race_audit cascade; create schema db_race_audit; create table db_race_audit.mine (id int)",
    );
    shop.sandbox
        .run(&words)
        .exits(64)
        .complains(&["is not a memory of db-race audit"]);
    assert!(there.is("to_regclass('db_race_audit.mine') is not null"));
}

#[test]
fn without_a_word_the_memory_is_in_the_users_state_directory_and_his_alone() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    let run = |variable: &str, value: &str, name: &str| {
        let mut command = shop
            .sandbox
            .command(&format!("audit checks --url {} --name {name}", shop.server.url()));
        command
            .env_remove("XDG_STATE_HOME")
            .env_remove("HOME")
            .env_remove("DB_RACE_STATE");
        if !variable.is_empty() {
            command.env(variable, value);
        }
        shop.sandbox.run_command(command)
    };
    let home = shop.sandbox.dir().join("home");
    let file = home.join(".local/state/db-race/audit.sqlite");
    run("HOME", home.to_str().unwrap(), "audit")
        .exits(2)
        .shows(&[file.to_str().unwrap()]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let state = shop.sandbox.dir().join("xdg");
    run("XDG_STATE_HOME", state.to_str().unwrap(), "nightly").exits(2);
    assert!(state.join("db-race/nightly.sqlite").is_file());
    run("", "", "audit")
        .exits(64)
        .complains(&["neither XDG_STATE_HOME nor HOME is set"]);
    run("HOME", home.to_str().unwrap(), "../up").exits(64);
}

#[test]
fn a_memory_that_cannot_be_written_is_told_with_what_was_seen() {
    let shop = Shop::new();
    shop.server.exec("create database memory");
    shop.breaks(&[1]);
    let words = |flags: &str| {
        let memory = shop.server.url_of("postgres@/memory");
        format!("audit checks --url {} --state {memory} {flags}", shop.server.url())
    };
    shop.sandbox.run(&words("")).exits(2);
    let there = crate::common::database::Database::connect(&shop.server.url_of("postgres@/memory"));
    there.exec("alter table db_race_audit.finding add constraint full_disk check (times_seen < 2)");
    shop.breaks(&[1, 2]);
    let run = shop.sandbox.run(&words("--format json")).exits(2);
    assert!(run.stderr.contains("full_disk"), "{run}");
    assert_eq!(told(&run.json()["audit"])[0], [2]);
    assert!(
        there.is("(select count(*) from db_race_audit.finding) = 1"),
        "one transaction"
    );
    shop.check("stock", "-- severity = \"warn\"\n", crate::STOCK);
    let run = shop.sandbox.run(&words("--format tap")).exits(3);
    let run = run.shows(&["not ok 2 - the run", "full_disk"]);
    assert!(run.stderr.contains("full_disk"), "{run}");
    shop.check("stock", "", crate::STOCK);
    there.exec("alter table db_race_audit.finding drop constraint full_disk");
    let next = shop.sandbox.run(&words("--format json")).exits(2).json();
    assert_eq!(told(&next["audit"]), [vec![2], vec![1], vec![], vec![]]);
    assert!(next["notes"][0].as_str().unwrap().contains("did not end"), "{next}");
}

#[test]
fn history_needs_a_memory() {
    let shop = Shop::new();
    shop.sandbox
        .run("audit history --state nowhere.sqlite")
        .exits(64)
        .complains(&["there is no memory at nowhere.sqlite"]);
    assert!(!shop.sandbox.dir().join("nowhere.sqlite").exists());
    let words = format!("audit history --state {}", shop.server.url());
    shop.sandbox
        .run(&words)
        .exits(64)
        .complains(&["there is no memory at postgres@"]);
}

#[test]
fn a_memory_of_an_older_program_is_brought_up_to_date() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    let [first, last] = ["2026-01-01T10:00:00.000Z", "2026-01-03T10:00:00.000Z"];
    let name = shop.result("")["checks"][0]["database"].as_str().unwrap().to_string();
    let found = |schema: &str| {
        format!(
            "insert into {schema}finding values \
             ('{name}', 'shop.stock', '{{\"id\":\"1\"}}', '{first}', '{last}', '{last}', 5, 1, null, null), \
             ('{name}', 'shop.stock', '{{\"id\":\"2\"}}', '{first}', '{first}', '{first}', 1, 0, '{last}', 'fixed'); \
             insert into {schema}subject values ('{name}', 'shop.stock', '', 'violated', 'error', 0)"
        )
    };
    let old = rusqlite::Connection::open(shop.sandbox.dir().join("old.sqlite")).unwrap();
    old.execute_batch(include_str!("../../src/audit/store/sqlite_1.sql"))
        .unwrap();
    old.execute_batch(&found("")).unwrap();
    old.pragma_update(None, "application_id", 0x6462_7261).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    shop.server.exec("create database memory");
    let url = shop.server.url_of("postgres@/memory");
    let there = crate::common::database::Database::connect(&url);
    there.exec(include_str!("../../src/audit/store/postgres_1.sql"));
    there.exec(&found("db_race_audit."));
    for memory in ["--state old.sqlite".to_string(), format!("--state {url}")] {
        let show = shop.sandbox.run(&format!("audit show shop.stock {memory}"));
        show.exits(64)
            .complains(&["is of an older db-race", "the next run of `db-race audit`"]);
        // history is read as it is
        let history = shop
            .sandbox
            .run(&format!("audit history {memory} --format json"))
            .exits(0)
            .json();
        assert_eq!(history["open"][0]["times_seen"], 5, "{history}");
        let words = format!("audit checks --url {} {memory} --format json", shop.server.url());
        let seen = shop.sandbox.run(&words).exits(2).json()["audit"].clone();
        assert_eq!(told(&seen), [vec![], vec![1], vec![], vec![]]);
        assert_eq!(seen["still_open"][0]["times_seen"], 6);
        // what is known of it is in its story
        let story = shop
            .sandbox
            .run(&format!("audit show shop.stock id=2 {memory} --format json"))
            .exits(0)
            .json();
        let what: Vec<&str> = story["findings"][0]["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h["what"].as_str().unwrap())
            .collect();
        assert_eq!(what, ["new", "fixed"]);
        shop.sandbox
            .run(&format!("audit retire shop.stock {memory}"))
            .exits(0)
            .shows(&["retired 1 finding"]);
    }
}
