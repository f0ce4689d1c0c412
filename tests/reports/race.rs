//! Races and sweeps of every outcome, as somebody else's parsers understand them.

use serde_json::Value;

use crate::common::Sandbox;
use crate::parsers::{parsed, parsed_all};

/// A run with all reports, whose parsers must agree with the exit code.
fn race(words: &str, code: i32) -> Option<Parsed> {
    let sandbox = Sandbox::new();
    let reports = "--report junit=r.xml --report tap=r.tap --report sarif=r.sarif --report prometheus=r.prom --report json=r.json";
    sandbox.run(&format!("contend {words} --quiet {reports}")).exits(code);
    let path = |name: &str| sandbox.dir().join(name);
    let [junit, tap, sarif, metrics, _] = parsed_all([
        ("junit", &path("r.xml")),
        ("tap", &path("r.tap")),
        ("sarif", &path("r.sarif")),
        ("openmetrics", &path("r.prom")),
        ("json", &path("r.json")),
    ])?;
    // green when, and only when, the exit code is 0
    let bad = junit["failures"].as_u64().unwrap() + junit["errors"].as_u64().unwrap();
    assert_eq!(bad == 0, code == 0, "{junit:#}");
    let not_ok = tap.as_array().unwrap().iter().filter(|t| t["ok"] == false).count() as u64;
    assert_eq!(not_ok, bad, "{tap:#}");
    Some(Parsed { junit, sarif, metrics })
}

struct Parsed {
    junit: Value,
    sarif: Value,
    metrics: Value,
}

impl Parsed {
    fn case(&self, name: &str) -> &Value {
        let cases = self.junit["suites"][0]["cases"].as_array().unwrap();
        cases.iter().find(|c| c["name"] == name).unwrap()
    }
}

#[test]
fn a_race_that_held() {
    if let Some(Parsed { sarif, metrics, .. }) = race("last-room --rounds 1", 0) {
        assert_eq!(sarif["runs"][0]["results"], Value::Array(Vec::new()));
        assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], true);
        let samples = metrics.as_array().unwrap();
        let accepted = samples
            .iter()
            .find(|s| s["name"] == "db_race_attempts" && s["labels"]["outcome"] == "accepted");
        assert_eq!(accepted.unwrap()["value"], 1.0);
        assert!(samples.iter().any(|s| s["labels"]["percentile"] == "95"));
    }
}

#[test]
fn a_race_that_found_a_bug() {
    let Some(parsed) = race("last-room --bug unlocked-read --rounds 2", 2) else {
        return;
    };
    let rule = parsed.case("hold.accepted == 1 per key");
    assert_eq!(
        (&rule["result"], &rule["file"]),
        (&"Failure".into(), &"scenarios/hotel/last-room.toml".into())
    );
    assert!(
        rule["message"]
            .as_str()
            .unwrap()
            .ends_with("broken in 2 of 2 rounds; control held"),
        "{rule}"
    );
    let check = parsed.case("hotel.inventory_violations");
    assert!(
        check["text"].as_str().unwrap().contains("room_type_id  date"),
        "{check}"
    );
    let results = parsed.sarif["runs"][0]["results"].as_array().unwrap();
    let rules: Vec<&str> = results.iter().map(|r| r["ruleId"].as_str().unwrap()).collect();
    assert_eq!(
        rules,
        ["last-room: hold.accepted == 1 per key", "hotel.inventory_violations"]
    );
}

#[test]
fn a_race_with_deadlocks() {
    let Some(parsed) = race("last-room-nights --bug callers-order --rounds 1", 2) else {
        return;
    };
    let rule = parsed.case("deadlocks == 0");
    assert!(
        rule["text"]
            .as_str()
            .unwrap()
            .contains("lock them in one order everywhere"),
        "{rule}"
    );
}

#[test]
fn a_race_in_which_nobody_met_is_not_green() {
    let Some(parsed) = race("last-room --sessions 1 --rounds 1", 3) else {
        return;
    };
    let run = parsed.case("the run");
    assert_eq!(run["result"], "Error");
    assert!(run["message"].as_str().unwrap().starts_with("no contention"), "{run}");
}

#[test]
fn pools_and_sweeps_are_as_the_schema_says() {
    race("too-small", 0);
    let sandbox = Sandbox::new();
    let sweep = "sweep how-many --pool 2,6 --repeat 1 --quiet";
    sandbox
        .run(&format!("{sweep} --report json=sweep.json"))
        .exits(0)
        .shows(&["throughput by pool size"]);
    parsed("json", &sandbox.dir().join("sweep.json"));
    sandbox
        .run(&format!("{sweep} --report junit=x.xml"))
        .exits(64)
        .complains(&["a sweep has no report", "`junit`"]);
}
