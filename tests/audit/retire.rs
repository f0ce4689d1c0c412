//! Checks that are no longer in the suite, and what is retired.

use serde_json::Value;

use crate::common::run::Run;
use crate::{STOCK, Shop, ids, told};

/// A file and a database.
fn memories(shop: &Shop) -> [String; 2] {
    shop.server.exec("create database memory");
    let database = format!("--state {}", shop.server.url_of("postgres@/memory"));
    ["--state file.sqlite".to_string(), database]
}

/// The checks that are gone, with their open findings, and whether that is news.
fn gone(audit: &Value) -> Vec<(String, u64, bool)> {
    let gone = audit["gone"].as_array().unwrap().iter();
    let one = |gone: &Value| {
        (
            gone["check"].as_str().unwrap().to_string(),
            gone["open"].as_u64().unwrap(),
            gone["is_news"].as_bool().unwrap(),
        )
    };
    gone.map(one).collect()
}

fn remove(shop: &Shop, file: &str) {
    std::fs::remove_file(shop.sandbox.dir().join(file)).unwrap();
}

#[test]
fn a_check_that_is_gone_is_told_once_and_its_findings_are_retired_by_hand() {
    let shop = Shop::new();
    shop.breaks(&[1, 2]);
    for memory in memories(&shop) {
        shop.check("old", "", "select id from item where stock < 0 and id = 1");
        let run = |checks: &str, flags: &str| -> Run {
            let words = format!("audit {checks} --url {} {memory} {flags}", shop.server.url());
            shop.sandbox.run(&words)
        };
        let audit = |checks: &str, flags: &str| {
            let report = run(checks, &format!("{flags} --format json")).exits(2).json();
            report["audit"].clone()
        };
        let history = || {
            let words = format!("audit history {memory} --format json");
            shop.sandbox.run(&words).exits(0).json()
        };
        let retire = |words: &str| shop.sandbox.run(&format!("audit retire {memory} {words}"));
        assert_eq!(audit("checks", "")["counts"]["new"], 3);
        remove(&shop, "checks/old.sql");
        // who leaves some of the suite out misses nothing
        shop.check("more", "", "select id from item where false");
        for (checks, flags) in [
            ("checks", "--only shop.stock"),
            ("checks", "--skip shop.more"),
            ("checks/stock.sql", ""),
        ] {
            let narrowed = audit(checks, flags);
            assert_eq!((gone(&narrowed), ids(&narrowed, "not_looked_at")), (vec![], vec![1]));
        }
        remove(&shop, "checks/more.sql");
        let first = audit("checks", "");
        assert_eq!(
            (gone(&first), &first["changed"]),
            (vec![("shop.old".into(), 1, true)], &true.into())
        );
        assert_eq!(ids(&first, "fixed"), [0; 0], "nobody looked");
        assert_eq!(first["not_looked_at"][0]["why"], "its check is no longer in the suite");
        let second = audit("checks", "");
        assert_eq!(
            (gone(&second), &second["changed"]),
            (vec![("shop.old".into(), 1, false)], &false.into())
        );
        run("checks", "").shows(&[
            "no longer in the suite: shop.old (1 open); if nobody is to look at them again: db-race audit retire CHECK",
        ]);

        retire("shop.odl").exits(64).complains(&["did you mean `shop.old`?"]);
        retire("shop.old* --reason replaced_by_stock")
            .exits(0)
            .shows(&["retired 1 finding of shop.old on "]);
        retire("shop.old").exits(0).shows(&["nothing to retire"]);
        let past = history();
        let retired = &past["retired"][0];
        assert_eq!(
            (&retired["check"], &retired["findings"], &retired["why"]),
            (&"shop.old".into(), &1.into(), &"replaced_by_stock".into())
        );
        assert_eq!(past["open"].as_array().unwrap().len(), 2);
        let third = audit("checks", "");
        assert_eq!((gone(&third), ids(&third, "not_looked_at")), (vec![], vec![]));
        assert_eq!(told(&third), [vec![], vec![1, 2], vec![], vec![]]);

        shop.check("old", "", "select id from item where stock < 0 and id = 1");
        let back = audit("checks", "");
        assert_eq!(told(&back), [vec![], vec![1, 2], vec![], vec![1]]);
        assert_eq!(back["came_back"][0]["check"], "shop.old");
        assert_eq!(back["came_back"][0]["times_seen"], 2);
    }
}

#[test]
fn suites_that_share_a_memory_dont_miss_each_others_checks() {
    let shop = Shop::new();
    shop.breaks(&[1]);
    shop.check("slow", "", STOCK);
    let moved = |from: &str, to: &str| {
        let dir = shop.sandbox.dir();
        std::fs::create_dir_all(dir.join(to).parent().unwrap()).unwrap();
        std::fs::rename(dir.join(from), dir.join(to)).unwrap();
    };
    moved("checks/slow.sql", "nightly/slow.sql");
    let audit = |checks: &str| {
        let words = format!(
            "audit {checks} --url {} --state s.sqlite --format json",
            shop.server.url()
        );
        shop.sandbox.run(&words).exits(2).json()["audit"].clone()
    };
    for checks in ["checks", "nightly", "checks", "nightly"] {
        assert_eq!(gone(&audit(checks)), [], "{checks}");
    }
    // from the one to the other: it is not there any more, until it is seen to be here
    shop.check("more", "", "select id from item where stock < 0");
    audit("checks");
    moved("checks/more.sql", "nightly/more.sql");
    assert_eq!(gone(&audit("checks")), [("shop.more".into(), 1, true)]);
    let nightly = audit("nightly");
    assert_eq!((gone(&nightly), ids(&nightly, "still_open")), (vec![], vec![1, 1]));
    assert_eq!(gone(&audit("checks")), []);
    remove(&shop, "nightly/more.sql");
    assert_eq!(gone(&audit("nightly")), [("shop.more".into(), 1, true)]);
}

#[test]
fn of_several_databases_one_can_be_retired() {
    let shop = Shop::new();
    shop.server.exec("create database other");
    let other = shop.server.url_of("postgres@/other");
    crate::common::database::Database::connect(&other)
        .exec("create table item (id int, stock int); insert into item values (7, -7)");
    shop.breaks(&[1]);
    shop.check("old", "", STOCK);
    let run = |urls: &str| {
        let words = format!("audit checks {urls} --state s.sqlite --format json");
        shop.sandbox.run(&words).exits(2).json()["audit"].clone()
    };
    let here = format!("--url {}", shop.server.url());
    let both = format!("{here} --url {other}");
    run(&both);
    remove(&shop, "checks/old.sql");
    // the one that is not among them is not missed
    assert_eq!(gone(&run(&here)), [("shop.old".into(), 1, true)]);
    let seen = run(&both);
    let mut news: Vec<bool> = gone(&seen).into_iter().map(|(_, _, is_news)| is_news).collect();
    news.sort_unstable();
    assert_eq!(news, [false, true]);
    let database = |of: &str| {
        let gone = seen["gone"].as_array().unwrap().iter();
        let mut names = gone.map(|g| g["database"].as_str().unwrap());
        names.find(|name| name.ends_with(of)).unwrap().to_string()
    };
    let retire = |database: &str| {
        shop.sandbox
            .run(&format!("audit retire shop.old --database {database} --state s.sqlite"))
    };
    retire("nowhere")
        .exits(64)
        .complains(&["has nothing open on nowhere, but on", "/other`"]);
    let name = database("/other");
    retire(&name)
        .exits(0)
        .shows(&[&format!("retired 1 finding of shop.old on {name}")]);
    assert_eq!(gone(&run(&both)), [("shop.old".into(), 1, false)]);
    assert_eq!(ids(&run(&both), "not_looked_at"), [1]);
}

#[test]
fn retiring_needs_a_memory_and_makes_none() {
    let shop = Shop::new();
    shop.sandbox
        .run("audit retire shop.old --state nowhere.sqlite")
        .exits(64)
        .complains(&["there is no memory at nowhere.sqlite"]);
    assert!(!shop.sandbox.dir().join("nowhere.sqlite").exists());
}
