//! What is new, still open, fixed, and what nobody looked at.

use std::time::Duration;

use crate::common::database::Database;
use crate::common::wait_until;
use crate::{STOCK, Shop, ids, told};

#[test]
fn findings_are_new_then_open_then_fixed_then_back() {
    let shop = Shop::new();
    for memory in ["--state file.sqlite".to_string(), {
        shop.server.exec("create database memory");
        format!("--state {}", shop.server.url_of("postgres@/memory"))
    }] {
        shop.breaks(&[]);
        let audit = |code: i32| {
            let words = format!("audit checks --url {} --format json {memory}", shop.server.url());
            shop.sandbox.run(&words).exits(code).json()["audit"].clone()
        };
        let first = audit(0);
        assert_eq!(
            (&first["changed"], &first["last_run"]),
            (&false.into(), &serde_json::Value::Null)
        );
        shop.breaks(&[1, 2]);
        assert_eq!(told(&audit(2)), [vec![1, 2], vec![], vec![], vec![]]);
        shop.breaks(&[2, 3]);
        let third = audit(2);
        assert_eq!(told(&third), [vec![3], vec![2], vec![1], vec![]]);
        assert_eq!(third["counts"]["open"], 2);
        let still = &third["still_open"][0];
        assert_eq!(
            (&still["times_seen"], &still["check"]),
            (&2.into(), &"shop.stock".into())
        );
        assert_eq!(still["first_seen"], third["last_run"]);
        shop.breaks(&[1, 2]);
        let fourth = audit(2);
        assert_eq!(told(&fourth), [vec![], vec![2], vec![3], vec![1]]);
        assert_eq!(fourth["came_back"][0]["times_back"], 1);
        let unchanged = audit(2);
        assert_eq!(told(&unchanged), [vec![], vec![1, 2], vec![], vec![]]);
        assert_eq!(unchanged["changed"], false);
        shop.breaks(&[]);
        let last = audit(0);
        assert_eq!(
            (told(&last), &last["changed"]),
            ([vec![], vec![], vec![1, 2], vec![]], &true.into())
        );
    }
}

#[test]
fn what_was_not_looked_at_is_not_fixed() {
    let shop = Shop::new();
    shop.check("other", "", "select id from item where stock > 1");
    shop.breaks(&[5]);
    shop.result("");
    shop.breaks(&[]);
    // not among the checks of the run
    let words = |checks: &str, flags: &str| {
        format!(
            "audit {checks} --url {} --state state.sqlite --format json {flags}",
            shop.server.url()
        )
    };
    let other = shop.sandbox.run(&words("checks/other.sql", "")).exits(0).json();
    assert_eq!(
        (ids(&other["audit"], "fixed"), ids(&other["audit"], "not_looked_at")),
        (vec![], vec![5])
    );
    // could not be decided: a division by zero, a lock, a lost session
    shop.check("stock", "", "select id, 1 / 0 from item where id = 7");
    let failed = shop.sandbox.run(&words("checks", "")).exits(3).json();
    assert_eq!(
        (ids(&failed["audit"], "fixed"), ids(&failed["audit"], "not_looked_at")),
        (vec![], vec![5])
    );
    let why = failed["audit"]["not_looked_at"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("could not decide") && why.contains("division by zero"),
        "{why}"
    );
    shop.check("stock", "", STOCK);
    let holder = shop.another();
    holder.exec("begin; lock table item");
    let late = shop.sandbox.run(&words("checks", "--timeout 300ms")).exits(3).json();
    holder.exec("rollback");
    assert_eq!(
        (ids(&late["audit"], "fixed"), ids(&late["audit"], "not_looked_at")),
        (vec![], vec![5])
    );
    // and now it is looked at
    let seen = shop.sandbox.run(&words("checks", "")).exits(0).json();
    assert_eq!(told(&seen["audit"]), [vec![], vec![], vec![5], vec![]]);
}

#[test]
fn what_lies_beyond_the_cap_was_not_looked_at() {
    let shop = Shop::new();
    shop.check("stock", "-- count = \"capped(3)\"\n", STOCK);
    shop.breaks(&[10, 20]);
    shop.result("");
    // 20 is no longer among the first three, whether or not it is there
    shop.breaks(&[1, 2, 3, 4, 10]);
    let capped = shop.result("");
    assert_eq!(told(&capped), [vec![1, 2, 3], vec![], vec![], vec![]]);
    assert_eq!(ids(&capped, "not_looked_at"), [10, 20]);
    let why = capped["not_looked_at"][0]["why"].as_str().unwrap();
    assert!(why.contains("more rows than it counts"), "{why}");
    shop.breaks(&[2, 10]);
    assert_eq!(told(&shop.result("")), [vec![], vec![2, 10], vec![1, 3, 20], vec![]]);
}

#[test]
fn a_changed_check_has_fixed_nothing() {
    let shop = Shop::new();
    shop.breaks(&[1, 2]);
    shop.result("");
    shop.check("stock", "", "select id from item where stock < 0 and id > 1");
    let changed = shop.result("");
    assert_eq!(told(&changed), [vec![], vec![2], vec![], vec![]]);
    assert_eq!(ids(&changed, "check_changed"), [1]);
    shop.breaks(&[]);
    assert_eq!(
        told(&shop.result("")),
        [vec![], vec![], vec![2], vec![]],
        "what it asks is known now"
    );
}

#[test]
fn an_interrupted_run_leaves_the_memory_as_it_was_and_is_remembered_as_such() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    shop.result("");
    shop.breaks(&[]);
    let holder = shop.another();
    holder.exec("begin; lock table item");
    let run = shop.sandbox.start(&shop.words("--format json"));
    let waits = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify' and wait_event_type = 'Lock') > 0";
    wait_until("the check waits", Duration::from_secs(20), || shop.server.is(waits));
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait().exits(130).complains(&["the memory is as it was"]);
    holder.exec("rollback");

    let history = shop
        .sandbox
        .run("audit history --state state.sqlite --format json")
        .exits(0)
        .json();
    assert_eq!(history["runs"][1]["exit_code"], 130);
    assert_eq!(history["runs"][1]["complete"], false);
    let next = shop.audit("--format json").exits(0).json();
    assert_eq!(ids(&next["audit"], "fixed"), [1]);
    assert_eq!(next["audit"]["changed"], true);
    assert!(next["notes"][0].as_str().unwrap().contains("interrupted"), "{next}");
}

#[test]
fn an_unreachable_database_is_remembered_as_such() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    shop.result("");
    let dead = "audit checks --url postgresql://postgres@127.0.0.1:1/postgres --state state.sqlite";
    shop.sandbox
        .run(dead)
        .exits(69)
        .complains(&["cannot connect to postgres@127.0.0.1:1/postgres"]);
    // from cron it is told once
    shop.sandbox
        .run(&format!("{dead} --notify-on change"))
        .exits(69)
        .complains(&[]);
    let silent = shop.sandbox.run(&format!("{dead} --notify-on change")).exits(69);
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    let history = shop.sandbox.run("audit history --state state.sqlite").exits(0);
    history.shows(&["4 runs", "1 of them complete", "unreachable", "id=1"]);
    assert_eq!(told(&shop.result("")), [vec![], vec![1], vec![], vec![]]);
}

#[test]
fn history_shows_runs_trends_and_what_is_open() {
    let shop = Shop::new();
    for ids in [&[][..], &[1, 2, 3, 4], &[1], &[1]] {
        shop.breaks(ids);
        shop.audit("");
    }
    shop.sandbox.run("audit history --state state.sqlite").exits(0).shows(&[
        "4 runs since",
        "shop.stock",
        "▁█▃▃",
        "open findings: 1",
        "id=1",
        "violated",
    ]);
    let history = shop
        .sandbox
        .run("audit history shop.* --since 1h --state state.sqlite --format json")
        .exits(0)
        .json();
    assert_eq!(history["checks"][0]["trend"], serde_json::json!([0, 4, 1, 1]));
    assert_eq!(
        (&history["checks"][0]["came"], &history["checks"][0]["fixed"]),
        (&4.into(), &3.into())
    );
    assert_eq!(history["open"][0]["times_seen"], 3);
    let none = shop
        .sandbox
        .run("audit history other.* --state state.sqlite --format json")
        .exits(0)
        .json();
    assert_eq!(
        (&none["checks"], &none["open"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}

#[test]
fn old_runs_are_forgotten_and_findings_are_not() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    shop.result("");
    shop.result("--keep 1ms");
    let history = shop
        .sandbox
        .run("audit history --state state.sqlite --format json")
        .exits(0)
        .json();
    assert_eq!(history["runs"].as_array().unwrap().len(), 1);
    assert_eq!(history["open"][0]["times_seen"], 2);
}

#[test]
fn the_report_on_the_terminal_says_what_is_new_with_its_row() {
    let shop = Shop::new();
    shop.breaks(&[1, 2]);
    shop.audit("")
        .exits(2)
        .shows(&["FAILED", "new: 2", "id=1 stock=-1", "this is its first complete run"]);
    shop.breaks(&[2]);
    shop.audit("").exits(2).shows(&[
        "still open: 1",
        "seen 2 times",
        "fixed: 1",
        "id=1",
        "memory: state.sqlite",
    ]);
}

#[test]
fn two_checks_of_one_id_are_refused() {
    let shop = Shop::new();
    shop.sandbox.write(
        "more/copy.sql",
        &std::fs::read_to_string(shop.sandbox.dir().join("checks/stock.sql")).unwrap(),
    );
    let words = format!("audit checks more --url {} --state state.sqlite", shop.server.url());
    shop.sandbox
        .run(&words)
        .exits(64)
        .complains(&["shop.stock", "more/copy.sql"]);
    let words = format!(
        "audit checks checks/stock.sql --url {} --state state.sqlite",
        shop.server.url()
    );
    shop.sandbox.run(&words).exits(0);
}

#[test]
fn pending_rows_are_neither_new_nor_fixed_and_a_skipped_check_fixes_nothing() {
    let shop = Shop::new();
    shop.server
        .exec("alter table item add changed timestamptz not null default now() - interval '1 hour'");
    let grace = "-- grace = { column = \"changed\", for = \"15m\" }\n";
    let sql = "select id, changed from item where stock < 0 order by id";
    shop.check("stock", grace, sql);
    shop.breaks(&[1, 2]);
    assert_eq!(told(&shop.result("")), [vec![1, 2], vec![], vec![], vec![]]);
    // 2 is being put right, 3 has only just gone wrong
    shop.server
        .exec("update item set changed = now() where id in (2, 3); update item set stock = -1 where id = 3");
    let young = shop.result("");
    assert_eq!(told(&young), [vec![], vec![1], vec![], vec![]]);
    assert_eq!(ids(&young, "not_looked_at"), [2]);
    // it is not for this server
    shop.check("stock", &format!("{grace}-- run_on = \"standby\"\n"), sql);
    shop.check("other", "", "select id from item where stock > 1");
    let skipped = shop.result("");
    assert!(told(&skipped).iter().all(Vec::is_empty), "{skipped}");
    assert_eq!(ids(&skipped, "not_looked_at"), [1, 2]);
    shop.check("stock", grace, sql);
    shop.server
        .exec("update item set stock = 1, changed = now() - interval '1 hour' where id = 2");
    assert_eq!(told(&shop.result("")), [vec![], vec![1], vec![2], vec![]]);
}

#[test]
fn of_several_databases_one_that_is_not_there_is_not_looked_at() {
    let shop = Shop::new();
    shop.server.exec("create database other");
    let other = shop.server.url_of("postgres@/other");
    Database::connect(&other).exec("create table item (id int, stock int); insert into item values (7, -7)");
    shop.breaks(&[1]);
    let words = |other: &str| {
        let flags = "--state state.sqlite --format json";
        format!("audit checks --url {} --url {other} {flags}", shop.server.url())
    };
    let both = shop.sandbox.run(&words(&other)).exits(2).json();
    assert_eq!(told(&both["audit"])[0], [1, 7]);
    shop.breaks(&[]);
    shop.server.exec("alter database other allow_connections false");
    let one = shop.sandbox.run(&words(&other)).exits(3).json();
    assert_eq!(told(&one["audit"]), [vec![], vec![], vec![1], vec![]]);
    assert_eq!(ids(&one["audit"], "not_looked_at"), [7]);
    shop.server.exec("alter database other allow_connections true");
    let again = shop.sandbox.run(&words(&other)).exits(2).json();
    assert_eq!(told(&again["audit"]), [vec![], vec![7], vec![], vec![]]);
}

#[test]
fn another_parameter_is_another_question() {
    let shop = Shop::new();
    let sql = "select id from item where stock < current_setting('race.least')::int order by id";
    shop.check("stock", "-- params = { least = \"0\" }\n", sql);
    shop.server.exec(
        "update item set stock = 5; update item set stock = -1 where id = 1; update item set stock = -9 where id = 2",
    );
    shop.result("");
    let other = shop.result("--param least=-5");
    assert_eq!((ids(&other, "fixed"), ids(&other, "check_changed")), (vec![], vec![1]));
}
