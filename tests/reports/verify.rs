//! Checks of every outcome, with values that try to break out of each form.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::Sandbox;
use crate::parsers::parsed;

/// Values that end strings, elements, cells, lines, blocks and commands of the forms; with how SQL writes them.
pub(crate) const NASTY: [(&str, &str); 6] = [
    (
        r#"E']]> <a&b> "q" ''q'' \x01\x1b[31m'"#,
        "]]> <a&b> \"q\" 'q' \u{1}\u{1b}[31m",
    ),
    (
        r"E'a|b`c``\n::error::50%\r\n  ...\nnot ok 1 # TODO'",
        "a|b`c``\n::error::50%\r\n  ...\nnot ok 1 # TODO",
    ),
    ("'::stop-commands::x'", "::stop-commands::x"),
    (
        "'- leading, 🏨 # x {a: b} @team </details>'",
        "- leading, 🏨 # x {a: b} @team </details>",
    ),
    (r"E'\u0085\u2028\ufeff\u202e \\n'", "\u{85}\u{2028}\u{feff}\u{202e} \\n"),
    ("repeat('ö', 10000)", ""),
];

fn check(id: &str, header: &str, sql: &str) -> String {
    format!("-- /// db-race check\n-- id = \"{id}\"\n{header}-- ///\n{sql}\n")
}

/// A folder with a check of each outcome.
pub(crate) fn checks(sandbox: &Sandbox) -> String {
    let title = "-- title = \"No value | is <b>`nasty`</b> & \\\"worse\\\" #1 % @team\"\n";
    let rows: Vec<String> = NASTY
        .iter()
        .enumerate()
        .map(|(i, (sql, _))| format!("({i}, {sql})"))
        .collect();
    let nasty = format!(
        "select * from (values {}, ({}, null)) v(id, \"a|b\") order by id",
        rows.join(", "),
        NASTY.len()
    );
    let more = "-- key = [\"id\"]\n-- tags = [\"a b\", \"c\", \"c\"]\n-- owner = \"team <t@example.com>\"\n-- remedy = \"see docs/x.md#y\"\n";
    sandbox.write(
        "checks/b_nasty.sql",
        &check("t.nasty", &format!("{title}{more}"), &nasty),
    );
    let simple = |title: &str, more: &str| format!("-- title = \"{title}\"\n-- key = [\"id\"]\n{more}");
    sandbox.write(
        "checks/a_held.sql",
        &check("t.held", &simple("Nothing", ""), "select 1 as id where false"),
    );
    let warn = check(
        "t.warn",
        &simple("Look", "-- severity = \"warn\"\n"),
        "select generate_series(1, 2000) as id",
    );
    sandbox.write("checks/c_warn.sql", &warn);
    sandbox.write(
        "checks/d_undecided.sql",
        &check("t.undecided", &simple("Fails", ""), "select 1/0 as id"),
    );
    "checks".into()
}

/// One run, with a report of each kind.
struct Written {
    sandbox: Sandbox,
    stdout: String,
}

impl Written {
    fn new() -> Written {
        let sandbox = Sandbox::new();
        let server = sandbox.server();
        let folder = checks(&sandbox);
        let url = server.url();
        let command = sandbox.command(&format!(
            "verify {folder} --sample 7 --url {url} --report json=out/r.json --report junit=out/r.xml --report tap=out/r.tap \
             --report sarif=out/r.sarif --report prometheus=out/nightly.prom --report markdown=out/r.md"
        ));
        let run = sandbox.run_command(command).exits(2);
        let stdout = run.stdout;
        Written { sandbox, stdout }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join("out").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn every_kind_is_understood_by_somebody_elses_parser() {
    let written = Written::new();
    assert!(written.stdout.starts_with("FAILED  4 checks on"), "{}", written.stdout);
    written.is_json();
    written.is_junit();
    written.is_tap();
    written.is_sarif();
    written.is_metrics("prometheus");
    written.is_metrics("openmetrics");
    written.is_markdown();
}

impl Written {
    fn is_json(&self) {
        parsed("json", &self.path("r.json"));
        let report: Value = serde_json::from_str(&self.read("r.json")).unwrap();
        let rows = report["checks"][1]["findings"].as_array().unwrap();
        assert_eq!(rows.len(), NASTY.len() + 1);
        for ((_, value), seen) in NASTY.iter().zip(self.values()) {
            match value.is_empty() {
                true => assert!(seen.as_str().unwrap().starts_with(&"ö".repeat(1_000))),
                false => assert_eq!(seen, *value),
            }
        }
        assert_eq!(rows[NASTY.len()]["row"][1][1], Value::Null);
    }

    /// The values that the run has kept.
    fn values(&self) -> Vec<Value> {
        let report: Value = serde_json::from_str(&self.read("r.json")).unwrap();
        let rows = report["checks"][1]["findings"].as_array().unwrap();
        rows.iter().map(|row| row["row"][1][1].clone()).collect()
    }

    fn is_junit(&self) {
        let Some(report) = parsed("junit", &self.path("r.xml")) else {
            return;
        };
        assert_eq!([&report["tests"], &report["failures"], &report["errors"]], [4, 2, 1]);
        let cases = report["suites"][0]["cases"].as_array().unwrap();
        let results: Vec<&str> = cases.iter().map(|c| c["result"].as_str().unwrap()).collect();
        assert_eq!(results, ["Success", "Failure", "Failure", "Error"]);
        let nasty = &cases[1];
        assert_eq!(
            (&nasty["name"], &nasty["file"], &nasty["line"]),
            (&json!("t.nasty"), &json!("checks/b_nasty.sql"), &json!("9"))
        );
        assert_eq!(nasty["properties"]["owner"], "team <t@example.com>");
        assert_eq!(
            nasty["message"],
            "No value | is <b>`nasty`</b> & \"worse\" #1 % @team: 7 rows"
        );
        let text = nasty["text"].as_str().unwrap();
        for part in [
            "]]> <a&b> \"q\" 'q' \\u{1}\\u{1b}[31m",
            "🏨 # x {a: b} @team </details>",
            "öö… (",
            "remedy: see docs/x.md#y",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(cases[3]["message"].as_str().unwrap().contains("division by zero"));
    }

    fn is_tap(&self) {
        let Some(tests) = parsed("tap", &self.path("r.tap")) else {
            return;
        };
        let ok: Vec<&Value> = tests.as_array().unwrap().iter().map(|t| &t["ok"]).collect();
        assert_eq!(ok, [true, false, false, false]);
        assert!(
            tests
                .as_array()
                .unwrap()
                .iter()
                .all(|t| t["todo"] == false && t["skip"] == false),
            "{tests:#}"
        );
        let yaml = &tests[1]["yaml"];
        assert_eq!(yaml["at"], json!({ "file": "checks/b_nasty.sql", "line": 9 }));
        for (finding, value) in yaml["findings"].as_array().unwrap().iter().zip(self.values()) {
            assert_eq!(finding["row"][1], json!(["a|b", value]));
        }
        assert_eq!(tests[3]["yaml"]["severity"], "could not decide");
    }

    fn is_sarif(&self) {
        let Some(log) = parsed("sarif", &self.path("r.sarif")) else {
            return;
        };
        let run = &log["runs"][0];
        assert_eq!(run["invocations"][0]["exitCode"], 2);
        assert_eq!(
            run["invocations"][0]["executionSuccessful"], false,
            "not all was decided"
        );
        let notification = &run["invocations"][0]["toolExecutionNotifications"][0];
        assert_eq!(notification["associatedRule"]["id"], "t.undecided");
        let results = run["results"].as_array().unwrap();
        let of = |rule: &str| results.iter().filter(|r| r["ruleId"] == rule).collect::<Vec<_>>();
        assert_eq!(
            (of("t.nasty").len(), of("t.warn").len(), of("t.held").len()),
            (NASTY.len() + 1, 7, 0)
        );
        let place = &of("t.nasty")[0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "checks/b_nasty.sql");
        assert_eq!(place["region"]["startLine"], 9);
        assert_eq!(
            (&of("t.nasty")[0]["level"], &of("t.warn")[0]["level"]),
            (&json!("error"), &json!("warning"))
        );
        let mut prints: Vec<&Value> = results
            .iter()
            .map(|r| &r["partialFingerprints"]["dbRaceKey/v1"])
            .collect();
        prints.sort_by_key(|p| p.as_str().unwrap());
        prints.dedup();
        assert_eq!(prints.len(), results.len(), "each row has a fingerprint of its own");
    }

    fn is_metrics(&self, parser: &str) {
        let Some(samples) = parsed(parser, &self.path("nightly.prom")) else {
            return;
        };
        let value = |name: &str, labels: &[(&str, &str)]| {
            let is_it = |s: &&Value| s["name"] == name && labels.iter().all(|(l, v)| s["labels"][l] == *v);
            let found: Vec<&Value> = samples.as_array().unwrap().iter().filter(is_it).collect();
            assert!(found.len() < 2, "{name} {labels:?}: {found:#?}");
            found.first().map(|s| s["value"].as_f64().unwrap())
        };
        assert_eq!(value("db_race_run_exit_code", &[("run", "nightly")]), Some(2.0));
        assert_eq!(
            value(
                "db_race_check_violations",
                &[("check", "t.nasty"), ("severity", "error")]
            ),
            Some(7.0)
        );
        assert_eq!(value("db_race_check_violations", &[("check", "t.held")]), Some(0.0));
        assert_eq!(
            value("db_race_check_violations", &[("check", "t.undecided")]),
            None,
            "unknown is not 0"
        );
        assert_eq!(
            value(
                "db_race_check_state",
                &[("check", "t.undecided"), ("state", "could_not_decide")]
            ),
            Some(1.0)
        );
        assert_eq!(value("db_race_run_verdict", &[("verdict", "failed")]), Some(1.0));
        assert!(value("db_race_run_timestamp_seconds", &[]).unwrap() > 1.7e9);
    }

    fn is_markdown(&self) {
        let page = self.read("r.md");
        assert!(
            page.starts_with(
                "## ❌ db-race verify: failed\n\n1 broken, 1 worth a look, 1 could not be decided, 1 held.\n"
            ),
            "{page}"
        );
        let Some(seen) = parsed("markdown", &self.path("r.md")) else {
            return;
        };
        // the verdicts, the rows of the two that are broken
        let tables = seen["tables"].as_array().unwrap();
        assert_eq!(tables.len(), 3, "{seen:#}");
        let title = "t.nastyNo value | is <b>`nasty`</b> & \"worse\" #1 % @team";
        assert_eq!(tables[0][1], json!(["❌", title, "7 rows"]));
        let rows = tables[1].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]), (NASTY.len() + 2, &json!(["id", "a|b"])));
        for (i, part) in [
            "]]> <a&b> \"q\" 'q' \\u{1}\\u{1b}[31m",
            "a|b`c``\\n::error::50%\\r\\n  ...\\nnot ok 1 # TODO",
            "::stop-commands::x",
            "- leading, 🏨 # x {a: b} @team </details>",
            "\\u{85}\\u{2028}\\u{feff}\\u{202e} \\n",
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(rows[i + 1], json!([i.to_string(), part]));
        }
        assert_eq!(tables[2].as_array().unwrap().len(), 1 + 7);
        let used: Vec<&str> = seen["elements"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let ours = "br code details h2 p pre sub summary table tbody td th thead tr";
        assert_eq!(used.join(" "), ours, "a value became an element");
        // and nobody is called
        let (before, _) = page.split_once("<summary>The whole report</summary>").unwrap();
        assert!(!before.contains("% @team"), "{before}");
    }
}

#[test]
fn nothing_on_a_terminal_moves_the_cursor() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let run = sandbox
        .run(&format!("verify {} --url {}", checks(&sandbox), server.url()))
        .exits(2);
    let odd: Vec<char> = run.stdout.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert_eq!(odd, []);
    run.shows(&[
        "    1   a|b`c``\\n::error::50%\\r\\n  ...\\nnot ok 1 # TODO",
        "  remedy: see docs/x.md#y",
        "  owner: team <t@example.com>",
        "one snapshot at LSN 0/",
    ]);
}

#[test]
fn several_thousand_findings_fit_into_a_comment() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    for i in 0..300 {
        let sql = format!("select i as id, repeat('x', 250) as text from generate_series(1, 10) i -- {i}");
        let header = "-- title = \"Many\"\n-- key = [\"id\"]\n";
        sandbox.write(&format!("checks/{i}.sql"), &check(&format!("many.c{i}"), header, &sql));
    }
    let words = format!("verify checks --sample 10 --url {} --format markdown", server.url());
    let page = sandbox.run(&words).exits(2).stdout;
    let chars = page.chars().count();
    assert!((50_000..=65_536).contains(&chars), "{chars} characters");
    assert_eq!(
        page.lines().filter(|l| l.starts_with("| ❌ |")).count(),
        300,
        "the table has all"
    );
    assert!(
        page.contains("more sections found no room here"),
        "{}",
        &page[page.len() - 500..]
    );
    let opened = page.matches("<details>").count();
    assert_eq!(
        opened,
        page.matches("</details>").count(),
        "nothing is cut in the middle"
    );
}
