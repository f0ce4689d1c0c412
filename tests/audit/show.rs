//! Everything known about a finding.

use serde_json::{Value, json};

use crate::Shop;

#[test]
fn a_finding_has_a_story() {
    let shop = Shop::new();
    shop.server
        .exec("alter table item add mail text; update item set mail = 'ann@example.com'");
    shop.server.exec("create database memory");
    let sql = "select id, stock, mail from item where stock < 0 order by id";
    shop.check("stock", "-- mask = [\"mail\"]\n", sql);
    let waivers = "[[waiver]]\ncheck = 'shop.stock'\nkey = { id = 2 }\nowner = 'me@example.com'\nreason = 'an old import'\nuntil = 2999-12-31\n";
    shop.sandbox.write("w.toml", waivers);
    let database = format!("--state {}", shop.server.url_of("postgres@/memory"));
    for memory in ["--state file.sqlite".to_string(), database] {
        let audit = |ids: &[u32], flags: &str| {
            shop.breaks(ids);
            let words = format!(
                "audit checks --url {} {memory} --waivers w.toml {flags} --format json",
                shop.server.url()
            );
            shop.sandbox.run(&words).json()["started_at"]
                .as_str()
                .unwrap()
                .to_string()
        };
        let show = |words: &str| shop.sandbox.run(&format!("audit show {memory} {words}"));
        let first = audit(&[1, 2], "");
        let second = audit(&[2], "");
        // what is stored of the row stays, when a report has none
        let third = audit(&[1, 2], "--sample 0");
        let told = show("shop.stock id=1 --format json").exits(0).json();
        assert_eq!(told["schema"], "db-race/finding/1");
        let [finding] = told["findings"].as_array().unwrap().as_slice() else {
            panic!("{told}")
        };
        let times = |what: &str| finding[what].as_str().unwrap().to_string();
        assert_eq!(
            (times("first_seen"), times("last_seen")),
            (first.clone(), third.clone())
        );
        assert_eq!((times("is"), times("open_since")), ("open".into(), third.clone()));
        assert_eq!((&finding["times_seen"], &finding["times_back"]), (&2.into(), &1.into()));
        assert_eq!(finding["key"], json!({"id": "1"}));
        assert_eq!(finding["row"], json!([["id", "1"], ["stock", "-1"], ["mail", "***"]]));
        assert_eq!(finding["waiver"], Value::Null);
        let history = json!([
            {"at": first, "what": "new"}, {"at": second, "what": "fixed"}, {"at": third, "what": "came_back"}
        ]);
        assert_eq!(finding["history"], history);

        show("shop.stock id=2").exits(0).shows(&[
            "shop.stock id=2 on ",
            "open for",
            "id=2 stock=-1 mail=***",
            "waived until 2999-12-31 by me@example.com: an old import",
            &format!("{first}  new"),
            "memory: ",
        ]);
        audit(&[2], "");
        shop.sandbox
            .run(&format!("audit retire shop.stock --reason gone {memory}"))
            .exits(0);
        show("shop.stock")
            .exits(0)
            .shows(&["fixed", "came back", "retired: gone"]);
        let both = show("shop.stock --format json").json();
        let states = [&both["findings"][0]["is"], &both["findings"][1]["is"]];
        assert_eq!(states, ["fixed", "retired"]);
        assert_eq!(
            both["findings"][1]["waiver"],
            Value::Null,
            "nobody answers for what is closed"
        );
    }
}

#[test]
fn what_is_not_known_is_told_with_what_is() {
    let shop = Shop::new();
    shop.breaks(&[1, 2]);
    shop.check("other", "", "select id from item where false");
    shop.result("");
    for (words, parts) in [
        (
            "shop.stok id=1",
            ["knows no check `shop.stok`", "did you mean `shop.stock`?"],
        ),
        ("shop.other id=1", ["shop.other has had no finding", "state.sqlite"]),
        (
            "shop.stock nr=1",
            ["`nr` is no key column of shop.stock", "expected `id`"],
        ),
        ("shop.stock id=3", ["has had no such finding", "id=1 on "]),
        ("shop.stock --database nowhere", ["has had no such finding", "id=2 on "]),
        ("shop.stock 1", ["expected a column of the key", "hold_id=17"]),
    ] {
        let words = format!("audit show --state state.sqlite {words}");
        shop.sandbox.run(&words).exits(64).complains(&parts);
    }
    shop.sandbox
        .run("audit show shop.stock --state nowhere.sqlite")
        .exits(64)
        .complains(&["there is no memory at nowhere.sqlite"]);
}
