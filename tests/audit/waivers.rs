//! Findings that somebody answers for.

use std::time::{Duration, SystemTime};

use crate::{Shop, ids, told};

/// The day so many days from now.
fn day(days: u64, from_now: bool) -> String {
    let time = Duration::from_secs(days * 86_400);
    let at = if from_now {
        SystemTime::now() + time
    } else {
        SystemTime::now() - time
    };
    humantime::format_rfc3339_seconds(at).to_string()[..10].to_string()
}

fn waiver(check: &str, key: &str, until: &str) -> String {
    format!(
        "[[waiver]]\ncheck = \"{check}\"\n{key}\nowner = \"me@example.com\"\nreason = \"an old import\"\nuntil = {until}\n"
    )
}

#[test]
fn waived_findings_dont_count_and_expired_waivers_do() {
    let shop = Shop::new();
    shop.breaks(&[1, 2]);
    let soon = day(10, true);
    let past = day(2, false);
    let file = shop
        .sandbox
        .write("checks/waivers.toml", &waiver("shop.*", "key = { id = 1 }", &soon));
    let first = shop.audit("--format json").exits(2).json();
    assert_eq!(
        (ids(&first["audit"], "new"), ids(&first["audit"], "waived")),
        (vec![2], vec![1])
    );
    assert_eq!(first["audit"]["waived"][0]["waiver"]["owner"], "me@example.com");
    shop.breaks(&[1]);
    shop.audit("")
        .exits(0)
        .shows(&["PASSED", "waived: 1", "by me@example.com: an old import"]);

    std::fs::write(&file, waiver("shop.*", "key = { id = 1 }", &past)).unwrap();
    shop.audit("")
        .exits(2)
        .shows(&["still open: 1", "expired waivers", "checks/waivers.toml:2", &past]);

    std::fs::write(&file, waiver("shop.stock", "", &soon)).unwrap();
    shop.audit("").exits(0);
    shop.breaks(&[]);
    let unused = shop.audit("--format json").exits(0).json();
    assert_eq!(unused["audit"]["waivers_unused"][0]["check"], "shop.stock");
    assert_eq!(
        told(&unused["audit"])[2],
        [1],
        "that it is fixed is told, waived or not"
    );
}

#[test]
fn a_wrong_waiver_is_shown_at_its_line_before_anything_runs() {
    let shop = Shop::new();
    let soon = day(10, true);
    for (text, shown) in [
        (waiver("shop.stok", "", &soon), "did you mean `shop.stock`?"),
        (waiver("shop.stock", "key = { nr = 1 }", &soon), "expected one of `id`"),
        (waiver("shop.stock", "", "\"tomorrow\""), "waivers.toml:6:"),
        (waiver("shop.stock", "", &soon).replace("reason", "because"), "because"),
        (
            waiver("shop.stock", "", &soon).replace("owner = \"me@example.com\"\n", ""),
            "owner",
        ),
    ] {
        shop.sandbox.write("w/waivers.toml", &text);
        shop.audit("--waivers w/waivers.toml")
            .exits(64)
            .complains(&["w/waivers.toml:", shown]);
    }
    shop.audit("--waivers nowhere.toml")
        .exits(64)
        .complains(&["cannot read nowhere.toml"]);
    // a check that is bundled, or that another run knew, is known
    for check in ["hotel.orphan_holds", "hotel.*"] {
        shop.sandbox.write("w/waivers.toml", &waiver(check, "", &soon));
        shop.audit("--waivers w/waivers.toml").exits(0);
    }
}
