//! The promise of the project: each bundled bug is caught by its scenario, and the right procedures pass.

use std::collections::HashSet;

use serde_json::Value;

use super::list;
use crate::common::run::{broken_rules, rule};
use crate::common::{Sandbox, project};

fn bundled() -> Value {
    Sandbox::new().run("list --format json").exits(0).json()
}

#[test]
fn every_bug_is_caught_and_explained_in_its_scenario() {
    let sandbox = Sandbox::new();
    let bundled = bundled();
    let bugs = list(&bundled["bugs"]);
    assert!(bugs.len() >= 7, "{bugs:#?}");
    for bug in bugs {
        let text = |field: &str| bug[field].as_str().unwrap();
        let (name, breaks) = (text("name"), text("breaks"));
        let command = format!("contend {} --bug {name} --rounds 1", text("scenario"));

        let report = sandbox.run(&format!("{command} --format json --quiet")).exits(2).json();
        assert_eq!(report["verdict"]["outcome"], "failed", "{name}");
        assert_eq!(
            rule(&report, breaks)["state"],
            "broken",
            "{name}: {:#}",
            report["verdict"]
        );
        assert_eq!(report["race"]["bug"]["name"], name);
        let cause = match text("kind") {
            "concurrency" => "concurrency_bug",
            _ => "plain_bug",
        };
        assert_eq!(report["verdict"]["cause"], cause, "{name}: {:#}", report["verdict"]);

        let shown = sandbox.run(&command).exits(2).shows(&["FAILED", name, text("title")]);
        for rule in broken_rules(&report) {
            let rule = rule.strip_prefix("check ").unwrap_or(rule);
            assert!(shown.stdout.contains(rule), "{rule} is not named\n{shown}");
        }
        shows_what_is_wrong(&shown.stdout, &report);
    }
}

/// The report for people has the rows that each broken check found, or the cycle.
fn shows_what_is_wrong(text: &str, report: &Value) {
    let mut shown = 0;
    for check in list(&report["race"]["rounds"][0]["checks"]) {
        if check["decision"] != "violated" {
            continue;
        }
        let id = check["id"].as_str().unwrap();
        let finding = list(&check["findings"])
            .first()
            .unwrap_or_else(|| panic!("{id} has no rows"));
        let columns: Vec<&str> = list(&finding["row"])
            .iter()
            .map(|pair| pair[0].as_str().unwrap())
            .collect();
        // another run: the values differ, the columns don't
        let section = text
            .split_once(&format!("{id}: "))
            .unwrap_or_else(|| panic!("{id} has no section\n{text}"))
            .1;
        let mut lines = section.lines();
        lines
            .find(|line| line.split_whitespace().eq(columns.iter().copied()))
            .unwrap_or_else(|| panic!("{columns:?} is not a table's header below {id}\n{text}"));
        let row = lines.next().unwrap_or_default();
        assert!(
            row.split_whitespace().count() >= columns.len(),
            "no row below {id}\n{text}"
        );
        shown += 1;
    }
    if rule_is_broken(report, "deadlocks") {
        assert!(text.contains("a cycle of"), "{text}");
        shown += 1;
    }
    let extra_winners = list(&report["verdict"]["rules"])
        .iter()
        .any(|rule| rule["state"] == "broken" && rule["rule"].as_str().unwrap().contains("accepted"));
    assert!(shown > 0 || extra_winners, "{text}");
}

fn rule_is_broken(report: &Value, name: &str) -> bool {
    broken_rules(report)
        .iter()
        .any(|rule| rule.split(' ').next() == Some(name))
}

#[test]
fn the_right_procedures_pass_every_scenario_without_a_word() {
    let sandbox = Sandbox::new();
    let bundled = bundled();
    let scenarios = list(&bundled["scenarios"]);
    assert!(scenarios.len() >= 7, "{scenarios:#?}");
    for scenario in scenarios {
        let name = scenario["name"].as_str().unwrap();
        // those of a pool show what goes wrong: tests/contend/pool.rs
        if !project().join(format!("scenarios/hotel/{name}.toml")).is_file() {
            continue;
        }
        for _ in 0..2 {
            let run = sandbox
                .run(&format!("contend {name} --rounds 2 --format json"))
                .exits(0);
            assert_eq!(run.stderr, "");
            let report = run.json();
            assert_eq!(report["verdict"]["outcome"], "passed", "{name}");
            assert_eq!(report["verdict"]["cause"], Value::Null, "{name}");
            for nothing in [
                &report["verdict"]["reasons"],
                &report["notes"],
                &report["race"]["notes"],
            ] {
                assert_eq!(list(nothing), &[] as &[Value], "{name}");
            }
            for rule in list(&report["verdict"]["rules"]) {
                assert_eq!(rule["state"], "held", "{name}: {rule}");
                assert_ne!(rule["control"], "broken", "{name}: {rule}");
            }
            // each round has met: a pass is worth something
            for round in list(&report["race"]["rounds"]) {
                assert!(round["overlapping"].as_u64().unwrap() >= 2, "{name}: {round:#}");
                assert!(!list(&round["checks"]).is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn two_sessions_catch_the_unlocked_read_every_time() {
    let sandbox = Sandbox::new();
    for _ in 0..5 {
        let report = sandbox
            .run("contend last-room --bug unlocked-read --sessions 2 --rounds 1 --format json")
            .exits(2)
            .json();
        let hold = rule(&report, "hold.accepted");
        assert_eq!(hold["state"], "broken", "{hold:#}");
        assert_eq!(hold["control"], "held", "{hold:#}");
        let key = &report["race"]["rounds"][0]["keys"][0];
        assert_eq!(key["outcomes"]["accepted"], 2);
        let winners: HashSet<&str> = list(&key["winners"]).iter().map(|w| w.as_str().unwrap()).collect();
        assert_eq!(winners, HashSet::from(["guest 1", "guest 2"]));
    }
}

#[test]
fn a_deadlock_is_shown_as_its_cycle() {
    let sandbox = Sandbox::new();
    let command = "contend last-room-nights --bug callers-order --rounds 1";
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    let race = &report["race"];

    // all three know of the same deadlocks: the rounds, the server, and the victims
    let met = race["rounds"][0]["deadlocks"].as_u64().unwrap();
    let deadlocks = list(&race["deadlocks"]);
    assert!(met > 0);
    assert_eq!(race["server_deadlocks"], met);
    assert_eq!(deadlocks.iter().map(|d| d["count"].as_u64().unwrap()).sum::<u64>(), met);
    let reasons = list(&race["reasons"]);
    let reason = reasons
        .iter()
        .find(|r| r["sqlstate"] == "40P01")
        .expect("a reason of its own");
    assert_eq!(
        (reason["outcome"].as_str(), reason["count"].as_u64()),
        (Some("conflict"), Some(met))
    );

    for deadlock in deadlocks {
        let cycle = list(&deadlock["cycle"]);
        assert!(cycle.len() >= 2, "{deadlock:#}");
        for (i, member) in cycle.iter().enumerate() {
            let next = &cycle[(i + 1) % cycle.len()];
            assert_eq!(
                member["blocked_by"], next["pid"],
                "each waits for the next: {deadlock:#}"
            );
            assert_eq!(member["step"], "hold");
            assert_eq!(member["relation"], "room_inventory");
            assert!(member["row"].as_str().unwrap().starts_with('('), "{member:#}");
            assert!(
                member["statement"].as_str().unwrap().contains("create_booking_hold("),
                "{member:#}"
            );
            let parameter = |name: &str| {
                let pairs = list(&member["parameters"]);
                let pair = pairs.iter().find(|pair| pair[0] == name);
                pair.unwrap_or_else(|| panic!("no {name}: {member:#}"))[1]
                    .as_str()
                    .unwrap()
                    .to_string()
            };
            assert!(parameter("nights").starts_with("{2030-06-"), "{member:#}");
            // what the session sent is what we say it sent
            assert_eq!(member["session"], format!("guest {}", parameter("session")));
        }
        let victims: Vec<_> = cycle.iter().filter(|m| m["victim"] == true).collect();
        assert_eq!(victims.len(), 1, "{deadlock:#}");
        let line = victims[0]["at"][0].as_str().unwrap();
        assert!(
            line.starts_with("create_booking_hold(") && line.contains(" line "),
            "{line}"
        );
    }

    sandbox.run(command).exits(2).shows(&[
        "a cycle of",
        "waits for guest",
        "of room_inventory",
        "select hold_id from create_booking_hold(",
        ":nights = {2030-06-",
        "at create_booking_hold(",
        "the server ended it",
    ]);
}

#[test]
fn one_session_proves_nothing() {
    let sandbox = Sandbox::new();
    let run = sandbox
        .run("contend last-room --sessions 1 --rounds 1 --format json")
        .exits(3);
    let verdict = &run.json()["verdict"];
    assert_eq!(verdict["outcome"], "inconclusive");
    let why = verdict["reasons"][0].as_str().unwrap();
    assert!(why.contains("no contention"), "{why}");
    sandbox
        .run("contend last-room --sessions 1 --rounds 1")
        .exits(3)
        .shows(&["INCONCLUSIVE", "no contention"]);
}

#[test]
fn the_control_tells_a_plain_bug_from_a_concurrency_bug() {
    let sandbox = Sandbox::new();
    let plain = sandbox
        .run("contend expired-hold --bug expired-confirm --rounds 1 --format json")
        .exits(2)
        .json();
    assert_eq!(plain["verdict"]["cause"], "plain_bug");
    assert_eq!(rule(&plain, "late.accepted")["control"], "broken");
    assert_eq!(plain["race"]["control"]["overlapping"], 0, "one after another");

    let racy = sandbox
        .run("contend last-room --bug unlocked-read --rounds 1 --format json")
        .exits(2)
        .json();
    assert_eq!(racy["verdict"]["cause"], "concurrency_bug");
    assert_eq!(rule(&racy, "hold.accepted")["control"], "held");
    assert_eq!(racy["race"]["control"]["attempts"]["accepted"], 1);

    let command = "contend last-room --bug unlocked-read --rounds 1 --no-control";
    let without = sandbox.run(&format!("{command} --format json")).exits(2).json();
    assert_eq!(without["race"]["control"], Value::Null);
    assert_eq!(
        without["verdict"]["cause"],
        Value::Null,
        "without a control nobody can tell"
    );
    assert_eq!(rule(&without, "hold.accepted")["control"], Value::Null);
    let text = sandbox.run(command).exits(2);
    assert!(!text.stdout.contains("a concurrency bug:"), "{text}");
}
