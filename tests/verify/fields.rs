//! What a check's header and its folder's `suite.toml` say, field by field.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::database::Database;
use crate::common::{Sandbox, TestServer, wait_until};
use crate::{check, of};

/// Runs checks, given by id, header and SQL.
#[track_caller]
fn verify(sandbox: &Sandbox, server: &TestServer, checks: &[(&str, &str, &str)], flags: &str) -> Value {
    write(sandbox, checks);
    sandbox
        .run(&format!("verify checks --url {} --format json {flags}", server.url()))
        .json()
}

fn write(sandbox: &Sandbox, checks: &[(&str, &str, &str)]) {
    let _ = std::fs::remove_dir_all(sandbox.dir().join("checks"));
    for (id, header, sql) in checks {
        let header: String = header.lines().map(|line| format!("-- {line}\n")).collect();
        sandbox.write(&format!("checks/{id}.sql"), &check(id, &header, sql));
    }
}

/// Decision, level and count.
fn outcome(report: &Value, id: &str) -> (String, String, u64) {
    let check = of(report, id);
    let text = |field: &str| check[field].as_str().unwrap_or_default().to_string();
    (text("decision"), text("level"), check["count"].as_u64().unwrap())
}

#[track_caller]
fn expect(report: &Value, id: &str, decision: &str, level: &str, count: u64) {
    assert_eq!(
        outcome(report, id),
        (decision.into(), level.into(), count),
        "{:#}",
        of(report, id)
    );
}

fn reason<'a>(report: &'a Value, id: &str) -> &'a str {
    of(report, id)["reason"].as_str().unwrap_or_default()
}

#[test]
fn thresholds_decide_by_count_and_by_percentage() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let ten = "select n as id from generate_series(1, 10) n";
    let report = verify(
        &sandbox,
        &server,
        &[
            ("below", "error_if = '> 10'", ten),
            ("warns", "warn_if = '> 0'\nerror_if = '> 10'", ten),
            ("fails", "warn_if = '> 0'\nerror_if = '>= 10'", ten),
            ("percent_below", "error_if = '> 10%'\nof = 'select 100;'", ten),
            ("percent_above", "error_if = '>= 10%'\nof = 'select 100 -- all'", ten),
            ("percent_of_what", "error_if = '> 1%'\nof = 'select null'", ten),
            (
                "beyond_the_cap",
                "error_if = '> 5000'\ncount = 'capped(10)'",
                "select n as id from generate_series(1, 9000) n",
            ),
            (
                "below_the_cap",
                "error_if = '> 50%'\nof = 'select 20000'",
                "select n as id from generate_series(1, 9000) n",
            ),
        ],
        "",
    );
    expect(&report, "below", "held", "", 10);
    expect(&report, "warns", "violated", "warn", 10);
    expect(&report, "fails", "violated", "error", 10);
    expect(&report, "percent_below", "held", "", 10);
    assert_eq!(of(&report, "percent_below")["total"], 100);
    expect(&report, "percent_above", "violated", "error", 10);
    assert!(
        reason(&report, "percent_of_what").contains("`of` gives no number"),
        "{report:#}"
    );
    // the count goes as far as the threshold needs
    expect(&report, "beyond_the_cap", "violated", "error", 5001);
    assert_eq!(of(&report, "beyond_the_cap")["count_is_capped"], true);
    expect(&report, "below_the_cap", "held", "", 9000);
}

#[test]
fn rows_are_counted_and_sampled_as_asked() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let many = "select n as id from generate_series(1, 3000) n order by n";
    let checks = [
        ("exact", "count = 'exact'\nsample = 2", many),
        ("capped", "count = 'capped(7)'\nsample = 3", many),
        ("none", "count = 'none'\nsample = 2", many),
        ("none_at_all", "count = 'none'\nsample = 0", many),
    ];
    let report = verify(&sandbox, &server, &checks, "");
    for (id, count, is_capped, sample) in [
        ("exact", 3000, false, 2),
        ("capped", 7, true, 3),
        ("none", 2, true, 2),
        ("none_at_all", 1, true, 0),
    ] {
        let check = of(&report, id);
        assert_eq!(
            (&check["count"], &check["count_is_capped"]),
            (&json!(count), &json!(is_capped)),
            "{check:#}"
        );
        assert_eq!(check["findings"].as_array().unwrap().len(), sample, "{id}");
    }
    let report = verify(&sandbox, &server, &checks, "--sample 9");
    assert_eq!(
        of(&report, "exact")["findings"].as_array().unwrap().len(),
        9,
        "the command line wins"
    );
}

#[test]
fn masked_values_appear_nowhere() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table guest (id int, email text, age text); insert into guest values (1, 'who@secret.example', 'who@secret.example')");
    let checks = [
        (
            "shown",
            "key = ['id']\nmask = ['email', 'age']",
            "select id, email, age from guest",
        ),
        (
            "wrong",
            "key = ['id']\nmask = ['age']",
            "select id, age::int as age from guest",
        ),
        (
            "unknown",
            "key = ['id']\nmask = ['mail']",
            "select id, email from guest where false",
        ),
    ];
    for format in ["json", "text"] {
        write(&sandbox, &checks);
        let run = sandbox.run(&format!("verify checks --url {} --format {format}", server.url()));
        assert!(
            !run.stdout.contains("secret") && !run.stderr.contains("secret"),
            "{run}"
        );
        if format == "json" {
            let report = run.json();
            let row = &of(&report, "shown")["findings"][0]["row"];
            assert_eq!(*row, json!([["id", "1"], ["email", "***"], ["age", "***"]]));
            assert!(reason(&report, "wrong").contains("22P02"), "{report:#}");
            assert!(reason(&report, "unknown").contains("`mail`"), "{report:#}");
        }
    }
}

#[test]
fn young_rows_are_pending_and_do_not_count() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int, at timestamptz, local timestamp, day date);
         insert into t select n, now() - n * interval '1 minute', localtimestamp - n * interval '1 minute', current_date from generate_series(1, 30) n;
         insert into t values (98, null), (99, 'infinity'), (100, '-infinity')",
    );
    let header = |column: &str, time: &str| format!("key = ['id']\ngrace = {{ column = '{column}', for = '{time}' }}");
    let (some, all, none) = (header("at", "10m 30s"), header("at", "2h"), header("at", "1s"));
    let (local, day, text) = (header("local", "10m 30s"), header("day", "3d"), header("note", "1h"));
    let thirty = "select * from t where id <= 30 order by id";
    let capped = format!("{some}\ncount = 'capped(5)'");
    let exact = format!("{some}\ncount = 'exact'\nsample = 1");
    let report = verify(
        &sandbox,
        &server,
        &[
            ("some", &some, thirty),
            ("all", &all, thirty),
            ("none", &none, thirty),
            ("local", &local, thirty),
            ("day", &day, thirty),
            ("capped", &capped, thirty),
            ("exact", &exact, thirty),
            ("no_time", &all, "select * from t where id > 30 order by id"),
            ("no_date", &text, "select 1 as id, 'x' as note"),
        ],
        "",
    );
    for (id, decision, count, pending) in [
        ("some", "violated", 20, 10),
        ("all", "pending", 0, 30),
        ("none", "violated", 30, 0),
        ("local", "violated", 20, 10),
        ("day", "pending", 0, 30),
        ("capped", "violated", 5, 5),
        ("exact", "violated", 20, 10),
        // no time, and times that never come or are long past, are not young
        ("no_time", "violated", 3, 0),
    ] {
        let check = of(&report, id);
        assert_eq!(check["decision"], decision, "{check:#}");
        assert_eq!(
            (&check["count"], &check["pending"]),
            (&json!(count), &json!(pending)),
            "{check:#}"
        );
    }
    let pending: Vec<bool> = of(&report, "some")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["pending"].as_bool().unwrap())
        .collect();
    assert_eq!(pending, [[false; 5], [true; 5]].concat(), "five of each kind are shown");
    assert!(
        reason(&report, "no_date").contains("no date and no timestamp"),
        "{report:#}"
    );
    // what is pending fails nothing
    write(&sandbox, &[("all", &all, thirty)]);
    let run = sandbox.run(&format!("verify checks --url {}", server.url())).exits(0);
    run.shows(&["PASSED", "pending"]);
}

#[test]
fn only_what_a_second_snapshot_shows_too_is_confirmed() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int, note text); insert into t values (1, null), (2, 'x'), (3, 'x')");
    let confirm = "key = ['id', 'note']\nconfirm = '3s'";
    write(
        &sandbox,
        &[
            ("all_gone", confirm, "select id, note from t where id = 2"),
            ("some", confirm, "select id, note from t order by id"),
            (
                "capped",
                "key = ['id']\nconfirm = '1s'\ncount = 'capped(1)'",
                "select id from t where id > 1 order by id",
            ),
            ("steady", "", "select id from t"),
        ],
    );
    let run = sandbox.start(&format!("verify checks --url {} --format json", server.url()));
    let ours = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify')";
    wait_until("the first snapshot", Duration::from_secs(20), || {
        server.is(&format!("{ours} > 0"))
    });
    wait_until("its end", Duration::from_secs(20), || server.is(&format!("{ours} = 0")));
    server.exec("delete from t where id = 2; insert into t values (4, 'new')");
    let report = run.wait().exits(2).json();
    expect(&report, "all_gone", "held", "", 0);
    expect(&report, "some", "violated", "error", 2);
    let keys: Vec<&Value> = of(&report, "some")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["key"])
        .collect();
    assert_eq!(
        json!(keys),
        json!([["1", null], ["3", "x"]]),
        "row 4 was not there before"
    );
    assert_eq!(
        (&of(&report, "some")["snapshot"], &of(&report, "steady")["snapshot"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(report["databases"][0]["snapshots"].as_array().unwrap().len(), 2);
    // the one row that was counted is gone, and nobody knows of the others
    assert_eq!(of(&report, "capped")["decision"], "could_not_decide");
    assert!(reason(&report, "capped").contains("raise `count`"), "{report:#}");
}

#[test]
fn a_check_that_is_not_for_this_database_is_skipped_with_the_reason() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int)");
    let one = "select 1 as id";
    let checks = [
        ("standby", "run_on = 'standby'", one),
        ("old", "requires = { pg = '< 10' }", one),
        ("new", "requires = { pg = '>= 99' }", one),
        (
            "table",
            "requires = { relations = ['public.t', 'public.nope'] }",
            "select id from nope",
        ),
        ("extension", "requires = { extensions = ['plpgsql', 'nope'] }", one),
        ("predicate", "requires = { predicate = 'exists (select from t)' }", one),
        (
            "all_there",
            "run_on = 'primary'\nrequires = { pg = '>= 13', relations = ['t'], extensions = ['plpgsql'], predicate = 'true' }",
            one,
        ),
        ("wrong_predicate", "requires = { predicate = 'nope(1)' }", one),
    ];
    let report = verify(&sandbox, &server, &checks, "");
    for (id, why) in [
        ("standby", "this is a primary"),
        ("old", "9 or older"),
        ("new", "99 or newer"),
        ("table", "there is no relation public.nope"),
        ("extension", "the extension nope is not installed"),
        ("predicate", "exists (select from t)"),
    ] {
        assert_eq!(of(&report, id)["decision"], "skipped", "{:#}", of(&report, id));
        assert!(reason(&report, id).contains(why), "{}", of(&report, id));
        assert!(of(&report, id)["snapshot"].is_null());
    }
    expect(&report, "all_there", "violated", "error", 1);
    assert_eq!(of(&report, "wrong_predicate")["decision"], "could_not_decide");
    // nothing was looked at, so nothing has held
    write(&sandbox, &checks[..1]);
    let url = server.url();
    let one = sandbox.run(&format!("verify checks --url {url}")).exits(3);
    one.shows(&[
        "INCONCLUSIVE  0 checks, 1 skipped,",
        "no check was run, the only one was",
    ]);
    write(&sandbox, &checks[..3]);
    let all = sandbox.run(&format!("verify checks --url {url}")).exits(3);
    all.shows(&[
        "no data: no check was run, all 3 were skipped (the first one is",
        "correct their `requires`, `run_on`, map or suite.toml",
    ]);
    // the flag speaks of all that is inconclusive
    for (how, code) in [("fail", 2), ("warn", 1), ("ok", 0)] {
        let words = format!("verify checks --url {url} --inconclusive {how}");
        sandbox.run(&words).exits(code).shows(&["INCONCLUSIVE"]);
    }
}

#[test]
fn parameters_are_read_by_the_statement_and_by_nobody_else() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let reads = "select current_setting('race.hold_ttl', true) as ttl";
    let checks = [
        ("a_reads", "params = { hold_ttl = \"15 'min'\" }", reads),
        ("b_has_none", "", reads),
    ];
    let value = |report: &Value, id: &str| {
        of(report, id)["findings"][0]["row"][0][1]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    let report = verify(&sandbox, &server, &checks, "--jobs 1");
    assert_eq!(value(&report, "a_reads"), "15 'min'");
    assert_eq!(value(&report, "b_has_none"), "", "it is gone with the check");
    let report = verify(&sandbox, &server, &checks, "--param hold_ttl=1h");
    assert_eq!(value(&report, "a_reads"), "1h");
    let run = sandbox
        .run(&format!("verify checks --url {} --param hold_tll=1h", server.url()))
        .exits(64);
    run.complains(&["`hold_tll`", "did you mean `hold_ttl`?"]);
}

#[test]
fn a_large_table_is_walked_in_ranges_that_add_up() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table \"Big\" (\"Id\" bigint primary key, bad bool);
         insert into \"Big\" select n, n % 10 = 0 from generate_series(-500, 9499) n;
         analyze \"Big\";
         create table empty (id int primary key)",
    );
    let chunk = "key = ['Id']\nchunk = { relation = '\"Big\"', key = 'Id', rows = 1000 }";
    let ranged = |condition: &str| {
        format!(
            "select \"Id\", current_setting('race.chunk_from') as range from \"Big\"
             where \"Id\" >= current_setting('race.chunk_from')::int8 and \"Id\" < current_setting('race.chunk_to')::int8 and {condition}
             order by 1"
        )
    };
    let exact = format!("{chunk}\ncount = 'exact'\nsample = 3");
    let (bad, few, none, breaks) = (
        ranged("bad"),
        ranged("\"Id\" in (-500, 9499)"),
        ranged("false"),
        ranged("1 / (\"Id\" - 9000) > 5"),
    );
    let checks = [
        ("exact", exact.as_str(), bad.as_str()),
        ("capped", &format!("{chunk}\ncount = 'capped(150)'"), &bad),
        ("ends", chunk, &few),
        ("held", chunk, &none),
        ("breaks", chunk, &breaks),
        (
            "empty",
            "chunk = { relation = 'empty', key = 'id' }",
            "select 1 as id where current_setting('race.chunk_from') = ''",
        ),
        ("missing", "chunk = { relation = 'nope', key = 'id' }", "select 1 as id"),
    ];
    let report = verify(&sandbox, &server, &checks, "--jobs 3");
    expect(&report, "exact", "violated", "error", 1000);
    let findings = &of(&report, "exact")["findings"];
    let first: Vec<&str> = (0..3).map(|i| findings[i]["key"][0].as_str().unwrap()).collect();
    assert_eq!(first, ["-500", "-490", "-480"], "in the order of the ranges");
    expect(&report, "capped", "violated", "error", 150);
    assert_eq!(of(&report, "capped")["count_is_capped"], true);
    // the first and the last key belong to a range each
    expect(&report, "ends", "violated", "error", 2);
    let ranges: Vec<&Value> = of(&report, "ends")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["row"][1][1])
        .collect();
    assert_ne!(ranges[0], ranges[1]);
    expect(&report, "held", "held", "", 0);
    expect(&report, "empty", "held", "", 0);
    // a range that can't be looked at is never passed
    assert_eq!(
        of(&report, "breaks")["decision"],
        "could_not_decide",
        "{:#}",
        of(&report, "breaks")
    );
    assert!(reason(&report, "breaks").contains("division by zero"));
    assert!(reason(&report, "missing").contains("there is no relation nope"));
    assert_eq!(report["databases"][0]["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn a_check_has_a_time_limit_of_its_own() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let checks = [
        ("short", "timeout = '200ms'", "select 1 as id from pg_sleep(600)"),
        (
            "long",
            "timeout = '1m'",
            "select 1 as id from pg_sleep(1) as s where s::text <> ''",
        ),
    ];
    let report = verify(&sandbox, &server, &checks, "--timeout 500ms");
    assert!(reason(&report, "short").contains("longer than 200ms"), "{report:#}");
    expect(&report, "long", "held", "", 0);
}

#[test]
fn rows_that_a_policy_hides_are_an_error_unless_the_check_wants_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int); insert into t values (1);
         alter table t enable row level security;
         create policy nobody on t using (false);
         create role guest login; grant select on t to guest",
    );
    write(
        &sandbox,
        &[
            ("all", "", "select id from t"),
            ("seen", "row_security = true", "select id from t"),
        ],
    );
    let url = server.url_of("guest@/postgres");
    let report = sandbox
        .run(&format!("verify checks --url {url} --format json"))
        .exits(3)
        .json();
    assert!(reason(&report, "all").contains("row-level security"), "{report:#}");
    expect(&report, "seen", "held", "", 0);
}

#[test]
fn a_suite_gives_a_folder_its_defaults_and_ids_and_tags_select() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    write(
        &sandbox,
        &[
            ("hotel.a", "", "select 1 as id"),
            ("hotel.b", "severity = 'error'\ntags = ['slow']", "select 1 as id"),
        ],
    );
    sandbox.write(
        "checks/suite.toml",
        "severity = \"warn\"\ntags = [\"nightly\"]\nowner = \"bookings@hotel.example\"\n",
    );
    sandbox.write("checks/inner/c.sql", &check("bank.c", "", "select 1 as id"));
    sandbox.write("checks/inner/suite.toml", "owner = \"ledger@bank.example\"\n");
    let url = server.url();
    let run = |flags: &str| sandbox.run(&format!("verify checks --url {url} --format json {flags}"));
    let report = run("").exits(2).json();
    expect(&report, "hotel.a", "violated", "warn", 1);
    expect(&report, "hotel.b", "violated", "error", 1);
    expect(&report, "bank.c", "violated", "warn", 1);
    assert_eq!(of(&report, "hotel.a")["owner"], "bookings@hotel.example");
    assert_eq!(of(&report, "bank.c")["owner"], "ledger@bank.example");
    assert_eq!(of(&report, "hotel.b")["tags"], json!(["slow", "nightly"]));
    for (flags, ids) in [
        ("--only hotel.*", &["hotel.a", "hotel.b"][..]),
        ("--skip hotel.*", &["bank.c"]),
        ("--tag slow", &["hotel.b"]),
        ("--tag nightly --exclude-tag slow", &["hotel.a", "bank.c"]),
    ] {
        let report = run(flags).json();
        let found: Vec<&str> = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["id"].as_str().unwrap())
            .collect();
        assert_eq!(found, ids, "{flags}");
    }
    run("--only hotl.a").exits(64).complains(&["did you mean `hotel.a`?"]);
    run("--skip *").exits(64).complains(&["no check is left"]);
    sandbox.write("checks/inner/twice.sql", &check("hotel.a", "", "select 1 as id"));
    run("")
        .exits(64)
        .complains(&["two checks are called `hotel.a`", "hotel.a.sql", "twice.sql"]);
    sandbox.write("checks/suite.toml", "severty = \"warn\"\n");
    run("")
        .exits(64)
        .complains(&["suite.toml:1:", "did you mean `severity`?"]);
}

#[test]
fn bytes_that_are_no_text_are_not_decided() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create database bytes encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'");
    let url = server.url_of("postgres@/bytes");
    Database::connect(&url).exec("create table t (id text); insert into t values (E'caf\\351')");
    write(&sandbox, &[("latin", "key = ['id']", "select id from t")]);
    let report = sandbox
        .run(&format!("verify checks --url {url} --format json"))
        .exits(3)
        .json();
    assert!(reason(&report, "latin").contains("invalid byte sequence"), "{report:#}");
}
