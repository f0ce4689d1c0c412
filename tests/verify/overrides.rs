//! `[override."<id>"]` in a `suite.toml`: a check is tuned without being copied.

use serde_json::{Value, json};

use crate::common::Sandbox;
use crate::{check, of};

/// The checks that a name leads to, as `list` has them.
fn listed(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let list = sandbox.run(&format!("list {name} --format json")).exits(0).json();
    list.as_array().unwrap().clone()
}

#[test]
fn it_wins_over_the_checks_own_file_and_the_inner_one_over_the_outer_one() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let rows = "select n as id, now() as at from generate_series(1, 10) n order by n";
    let sleeps = "select 1 as id from pg_sleep(600)";
    let param = "select current_setting('race.least') as id where current_setting('race.least') <> '1'";
    for (id, header, sql) in [
        ("a.total", "-- error_if = \"> 5\"\n-- sample = 2\n", rows),
        ("a.percent", "-- error_if = \"> 5\"\n", rows),
        ("a.young", "", rows),
        ("a.slow", "-- timeout = \"10m\"\n", sleeps),
        ("a.param", "-- params = { least = \"1\" }\n-- tags = [\"own\"]\n", param),
        ("a.plain", "", rows),
        ("a.off", "", "select 1 / 0 as id"),
        ("a.on", "", rows),
        ("a.as_it_is", "-- sample = 2\n", rows),
    ] {
        sandbox.write(&format!("checks/in/{id}.sql"), &check(id, header, sql));
    }
    sandbox.write(
        "checks/suite.toml",
        r#"
sample = 9
[override."a.total"]
error_if = "> 10"
warn_if = "> 9"
sample = 4
[override."a.percent"]
error_if = "> 50%"
of = "select 40"
[override."a.young"]
grace = { column = "at", for = "1h" }
[override."a.slow"]
timeout = "200ms"
[override."a.param"]
params = { least = "7" }
tags = ["tuned"]
[override."a.plain"]
severity = "warn"
owner = "outer"
[override."a.off"]
enabled = false
reason = "until the migration is done"
[override."a.on"]
enabled = false
reason = "not here"
"#,
    );
    sandbox.write(
        "checks/in/suite.toml",
        "[override.\"a.plain\"]\nowner = \"inner\"\n[override.\"a.on\"]\nenabled = true\n",
    );
    let url = server.url();
    // however they are named
    for name in ["checks", "checks/in"] {
        let report = sandbox
            .run(&format!("verify {name} --url {url} --format json"))
            .exits(2)
            .json();
        let got = |id: &str| {
            let check = of(&report, id);
            json!([
                check["decision"],
                check["level"],
                check["findings"].as_array().unwrap().len()
            ])
        };
        assert_eq!(got("a.total"), json!(["violated", "warn", 4]));
        assert_eq!(got("a.percent")[0], "held", "10 of 40");
        assert_eq!(got("a.young")[0], "pending");
        assert_eq!(got("a.slow")[0], "could_not_decide");
        assert_eq!(of(&report, "a.param")["findings"][0]["row"], json!([["id", "7"]]));
        assert_eq!(of(&report, "a.param")["tags"], json!(["own", "tuned"]));
        assert_eq!(got("a.plain"), json!(["violated", "warn", 9]));
        assert_eq!(of(&report, "a.plain")["owner"], "inner");
        assert_eq!(got("a.on")[0], "violated");
        assert_eq!(got("a.as_it_is"), json!(["violated", "error", 2]));
        let off = of(&report, "a.off");
        assert_eq!(off["decision"], "skipped");
        let reason = off["reason"].as_str().unwrap();
        assert!(
            reason.contains("suite.toml:21: until the migration is done"),
            "{reason}"
        );
    }
    // one file by itself, and the others of which the suite speaks are still known
    let run = sandbox.run(&format!("verify checks/in/a.total.sql --url {url}"));
    run.exits(1);
}

#[test]
fn bundled_checks_and_those_of_a_map_are_tuned_where_they_are_run() {
    let sandbox = Sandbox::new();
    let severity = |checks: &[Value], id: &str| {
        let check = checks.iter().find(|check| check["id"] == id);
        check.unwrap_or_else(|| panic!("no {id}"))["severity"].clone()
    };
    // another tool's file is none of ours
    sandbox.write("suite.toml", "name = \"another tool's\"\n");
    assert_eq!(severity(&listed(&sandbox, "hotel"), "hotel.orphan_holds"), "warn");
    sandbox.write(
        "suite.toml",
        "[override.\"hotel.orphan_holds\"]\nseverity = \"error\"\n\
         [override.\"hotel.inventory_violations\"]\nenabled = false\nreason = \"we overbook\"\n\
         [override.\"berths.overlap\"]\nseverity = \"warn\"\n",
    );
    sandbox.write(
        "maps/berths.toml",
        "pack = \"booking\"\nid = \"berths\"\n[map.booking]\nfrom = \"stay\"\nbooking_id = \"id\"\nresource_id = \"berth\"\n",
    );
    for name in ["hotel", "hotel/orphan_holds"] {
        assert_eq!(
            severity(&listed(&sandbox, name), "hotel.orphan_holds"),
            "error",
            "{name}"
        );
    }
    for name in ["maps", "maps/berths.toml"] {
        let checks = listed(&sandbox, name);
        assert_eq!(severity(&checks, "berths.overlap"), "warn", "{name}");
        assert_eq!(severity(&checks, "berths.ends_before_it_starts"), "error", "{name}");
    }
    let report = sandbox.run("verify hotel --format json").exits(0).json();
    let off = of(&report, "hotel.inventory_violations");
    assert_eq!(off["decision"], "skipped");
    assert!(off["reason"].as_str().unwrap().ends_with("we overbook"), "{off}");
    // the heading counts only what was looked at
    let run = sandbox.run("verify hotel").exits(0);
    let held = report["checks"].as_array().unwrap().len() - 1;
    let heading = format!("PASSED  {held} checks, 1 skipped, on the system as seeded\n");
    assert!(run.stdout.starts_with(&heading), "{run}");
}

#[test]
fn what_is_wrong_with_it_is_shown_at_its_line() {
    let sandbox = Sandbox::new();
    let header = "-- key = [\"id\"]\n-- error_if = \"> 1\"\n-- params = { least = \"1\" }\n";
    sandbox.write("checks/a.sql", &check("orders.total", header, "select 1 as id"));
    sandbox.write("checks/b.sql", &check("orders.keyless", "", "select 1 as id"));
    for (line, shown) in [
        ("[override.\"orders.totl\"]", "did you mean `orders.total`?"),
        ("[override.\"hotel.orphan_hold\"]", "did you mean `hotel.orphan_holds`?"),
        ("[override.\"nothing.like.it\"]", "no check is called `nothing.like.it`"),
        (
            "override.\"orders.total\" = { sevrity = \"warn\" }",
            "did you mean `severity`?",
        ),
        (
            "override.\"orders.total\" = { severity = \"warn\" }",
            "it has thresholds",
        ),
        ("override.\"orders.total\" = { enabled = false }", "add a `reason`"),
        (
            "override.\"orders.total\" = { enabled = false, reason = \" \" }",
            "add a `reason`",
        ),
        (
            "override.\"orders.total\" = { reason = \"why\" }",
            "beside `enabled = false`",
        ),
        (
            "override.\"orders.total\" = { params = { lest = \"2\" } }",
            "did you mean `least`?",
        ),
        (
            "override.\"orders.total\" = { key = [\"a\"] }",
            "an override has no `key`",
        ),
        (
            "override.\"orders.total\" = { override = { x = {} } }",
            "an override has no `override`",
        ),
        (
            "override.\"orders.total\" = { mask = [\"id\"] }",
            "can't be part of the key",
        ),
        (
            "override.\"orders.keyless\" = { confirm = \"1s\" }",
            "`confirm` needs a `key`",
        ),
        ("override.\"orders.total\" = { timeout = \"soon\" }", "a length of time"),
        ("enabled = false", "a suite has no `enabled`"),
    ] {
        sandbox.write("checks/suite.toml", &format!("# what we have tuned\n{line}\n"));
        for name in ["checks", "checks/a.sql checks/b.sql"] {
            let run = sandbox.run(&format!("list {name}")).exits(64);
            run.complains(&["suite.toml:2:", shown]);
        }
    }
    sandbox.write("checks/suite.toml", "");
    sandbox.write("checks/c.sql", &check("c", "-- enabled = false\n", "select 1 as id"));
    sandbox
        .run("list checks")
        .exits(64)
        .complains(&["c.sql:4:", "a check has no `enabled`"]);
    // where bundled checks are run, too
    sandbox.write(
        "suite.toml",
        "\n[override.\"hotel.orphan_hold\"]\nseverity = \"warn\"\n",
    );
    let run = sandbox.run("list hotel").exits(64);
    run.complains(&["suite.toml:2:", "did you mean `hotel.orphan_holds`?"]);
}
