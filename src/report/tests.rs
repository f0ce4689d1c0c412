//! Outcomes of checks side by side, in all forms.

use super::*;
use crate::verdict;
use crate::verify::{CheckResult, DatabaseResult, Decision, Finding, Severity, Snapshot};

fn check(id: &str, database: usize, decision: Decision) -> CheckResult {
    CheckResult {
        id: id.into(),
        title: format!("Title of {id}"),
        file: format!("checks/{id}.sql"),
        line: 7,
        database,
        decision,
        key: vec!["id".into()],
        reason: Some("requires table bookings".into()).filter(|_| decision == Decision::Skipped),
        ..CheckResult::default()
    }
}

fn finding(id: &str, pending: bool) -> Finding {
    Finding {
        key: vec![Some(id.into())],
        row: vec![("id".into(), Some(id.into())), ("note".into(), None)],
        pending,
    }
}

/// Two shards: a row that is too young on the one, the same check violated on the other, and one that was not run.
fn two_shards() -> Report {
    let mut young = check("t.a", 0, Decision::Pending);
    young.pending = 3;
    young.findings = vec![finding("1", true)];
    let mut broken = check("t.a", 1, Decision::Violated);
    (broken.count, broken.pending) = (2, 1);
    broken.level = Some(Severity::Warn);
    broken.findings = vec![finding("1", false), finding("2", false), finding("9", true)];
    let checks = vec![young, broken, check("t.b", 1, Decision::Skipped)];
    let database = |name: &str, standby: bool| DatabaseResult {
        name: name.into(),
        version: "17.6 (Debian)".into(),
        standby,
        replay_lag_ms: standby.then_some(1_250.0),
        snapshots: vec![Snapshot {
            lsn: Some("0/1A2B3C".into()),
            held_ms: 300.0,
            ..Snapshot::default()
        }],
        ..DatabaseResult::default()
    };
    Report {
        schema: SCHEMA,
        version: "1.2.3",
        command: "verify",
        started_at: "2026-01-02T03:04:05Z".into(),
        duration_ms: 1_500,
        verdict: verdict::judge_checks(&checks),
        terms: Default::default(),
        server: Default::default(),
        race: None,
        databases: vec![database("shard1", false), database("shard2", true)],
        checks,
        audit: None,
        notes: Vec::new(),
        reproduce: None,
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn people_see_which_database_and_what_is_pending() {
    let terminal = text(|out| write_terminal(&two_shards(), Style::default(), out));
    shows(
        &terminal,
        &[
            "WARNED  2 checks, 1 skipped, on 2 databases",
            "… check t.a  shard1  3 rows pending",
            "! check t.a  shard2  2 rows",
            "- check t.b  shard2  skipped: requires table bookings",
            "t.a: 3 rows pending on shard1",
            "    and 2 more pending: too young to tell",
            "t.a: 2 rows on shard2",
            "9   NULL  pending",
            "shard1: PostgreSQL 17.6, one snapshot at LSN 0/1A2B3C, held 300 ms",
            "shard2: PostgreSQL 17.6, standby 1.25 s behind, one snapshot",
        ],
    );
    let page = text(|out| write_markdown(&two_shards(), 1, out));
    shows(
        &page,
        &[
            "⚠️ db-race verify: warned",
            "1 worth a look, 1 pending, 1 skipped.",
            "| ⏳ | <code>t.a</code><br>Title of t.a | <code>shard1</code> | 3 rows pending |",
            "| ⚠️ | <code>t.a</code><br>Title of t.a | <code>shard2</code> | 2 rows |",
            "<summary>t.a on shard2: 2 rows</summary>",
            "| <code>9</code> | <code>NULL</code> | pending |",
        ],
    );
}

#[test]
fn programs_see_each_database_for_itself() {
    let report = two_shards();
    let junit = text(|out| write_junit(&report, out));
    shows(
        &junit,
        &[
            r#"<testsuites name="db-race verify" tests="3" skipped="1" failures="1" errors="0""#,
            r#"<testsuite name="shard1" tests="1" skipped="0" errors="0" failures="0""#,
            r#"<testsuite name="shard2" tests="2" skipped="1" errors="0" failures="1""#,
            r#"<skipped message="skipped: requires table bookings"/>"#,
            r#"type="warn">t.a: 2 rows"#,
        ],
    );
    let tap = text(|out| write_tap(&report, out));
    shows(
        &tap,
        &[
            "ok 1 - t.a: Title of t.a on shard1\n  ---\n  message: \"3 rows pending\"\n  severity: \"pending\"",
            "\nnot ok 2 - t.a: Title of t.a on shard2\n",
            "\nok 3 - t.b: Title of t.b on shard2 # SKIP requires table bookings\n",
        ],
    );
    let metrics = text(|out| write_prometheus(&report, 1, "x", out));
    shows(
        &metrics,
        &[
            "db_race_run_timestamp_seconds{run=\"x\"} 1767323046.5\n",
            "db_race_check_pending{run=\"x\",check=\"t.a\",database=\"shard1\",severity=\"error\"} 3\n",
            "db_race_check_violations{run=\"x\",check=\"t.a\",database=\"shard1\",severity=\"error\"} 0\n",
            "db_race_check_violations{run=\"x\",check=\"t.a\",database=\"shard2\",severity=\"error\"} 2\n",
            "db_race_check_state{run=\"x\",check=\"t.b\",database=\"shard2\",severity=\"error\",state=\"skipped\"} 1\n",
            "db_race_database_replay_lag_seconds{run=\"x\",database=\"shard2\"} 1.25\n",
        ],
    );
    assert!(
        !metrics.contains("db_race_check_violations{run=\"x\",check=\"t.b\""),
        "{metrics}"
    );
}

#[test]
fn the_same_row_is_another_alert_in_another_database_and_pending_is_none() {
    let prints = |report: &Report| -> Vec<String> {
        let log = text(|out| write_sarif(report, 1, &Paths::default(), out));
        let log: serde_json::Value = serde_json::from_str(&log).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap();
        results
            .iter()
            .map(|r| r["partialFingerprints"]["dbRaceKey/v1"].to_string())
            .collect()
    };
    let mut report = two_shards();
    let before = prints(&report);
    assert_eq!(before.len(), 2, "the two rows that are not pending");
    // other columns of a row may change
    report.checks[1].findings[0].row[1].1 = Some("changed".into());
    assert_eq!(prints(&report), before);
    report.databases[1].name = "shard3".into();
    assert!(prints(&report).iter().all(|print| !before.contains(print)));
}

#[test]
fn annotations_name_the_database_and_what_is_pending_is_a_notice() {
    let annotations = text(|out| write_annotations(&two_shards(), &Paths::default(), out));
    let lines: Vec<&str> = annotations.lines().collect();
    assert_eq!(lines.len(), 2);
    shows(
        lines[0],
        &["::warning file=checks/t.a.sql,line=7,title=t.a on shard2%3A 2 rows::t.a: 2 rows%0A"],
    );
    shows(
        lines[1],
        &["::notice file=checks/t.a.sql,line=7,title=t.a on shard1%3A 3 rows pending::"],
    );
}
