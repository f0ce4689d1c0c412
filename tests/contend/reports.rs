//! What people and programs get to read, and how a run is repeated.

use serde_json::Value;

use super::list;
use crate::common::Sandbox;

const ESCAPE: char = '\x1b';

#[test]
fn json_is_one_document_on_stdout_alone() {
    let sandbox = Sandbox::new();
    for (command, code) in [
        ("contend last-room --sessions 3 --rounds 1", 0),
        ("contend last-room --sessions 3 --rounds 1 --bug unlocked-read", 2),
        ("contend last-room --sessions 1 --rounds 1", 3),
    ] {
        let run = sandbox.run(&format!("{command} --format json --quiet")).exits(code);
        assert_eq!(run.stderr, "");
        let report = run.json();
        assert_eq!(report["schema"], "db-race/report/1");
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(report["command"], "contend");
        assert_eq!(report["race"]["scenario"], "last-room");
        assert_eq!(report["server"]["throwaway"], true);
        assert!(
            report["server"]["version_number"].as_u64().unwrap() >= 100_000,
            "{}",
            report["server"]
        );
        assert!(!run.stdout.contains(ESCAPE));
    }
}

#[test]
fn the_text_says_the_verdict_first_and_how_to_do_it_again() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("contend last-room --rounds 1 --seed 4711").exits(0);
    assert!(run.stdout.starts_with("PASSED  last-room"), "{run}");
    assert_eq!(run.stderr, "", "no progress where nobody watches");
    let again = run
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("again: db-race "))
        .expect("a command");
    assert!(again.contains("--seed 4711") && again.contains("--rounds 1"), "{again}");
    let again = sandbox.run(again).exits(0);
    assert!(again.stdout.starts_with("PASSED  last-room"), "{again}");
    let failed = sandbox.run("contend last-room --rounds 1 --bug unlocked-read").exits(2);
    assert!(failed.stdout.starts_with("FAILED  last-room"), "{failed}");
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let sandbox = Sandbox::new();
    let is_coloured = |flags: &str, environment: &[(&str, &str)]| {
        let mut command = sandbox.command(&format!("verify hotel/orphan_holds {flags}"));
        command.envs(environment.iter().copied());
        sandbox.run_command(command).exits(0).stdout.contains(ESCAPE)
    };
    assert!(!is_coloured("", &[]), "stdout is no terminal");
    assert!(is_coloured("--color always", &[]));
    assert!(
        is_coloured("--color always", &[("NO_COLOR", "1")]),
        "who asks on the command line gets it"
    );
    // what makes any output pass for a terminal's shows that NO_COLOR is heard
    assert!(is_coloured("", &[("CLICOLOR_FORCE", "1")]));
    assert!(!is_coloured("", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!is_coloured("--color never", &[("CLICOLOR_FORCE", "1")]));
}

const DRAWS: &str = r#"
title  = "Draws are written down"
rounds = 2
[keys]
sql  = "select n as key from generate_series(1, 100) n"
pick = "random"
[params]
number = { int = [1, 1000000] }
word   = { choice = ["a", "b", "c", "d"] }
[[sessions]]
name     = "a"
sessions = 4
schedule = { kind = "per-session", iterations = 3 }
steps    = [{ name = "draw", sql = "insert into draws values (:round, :session, :iteration, :key, :number, :word)" }]
"#;

#[test]
fn a_seed_draws_the_same_again() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table draws (round int, session int, iteration int, key int, number int, word text)");
    let file = sandbox.write("draws.toml", DRAWS);
    let draw = |seed: &str| {
        server.exec("truncate draws");
        // 100 keys and 4 sessions seldom meet, so it may well be inconclusive
        let run = sandbox.run(&format!("contend {file} --url {} --format json {seed}", server.url()));
        assert!(matches!(run.code, Some(0 | 3)), "{run}");
        (
            server.rows("select * from draws order by round, session, iteration"),
            run.json()["race"]["seed"].clone(),
        )
    };
    let (first, seed) = draw("");
    assert_eq!(first.len(), 3 * 4 * 3, "the control and two rounds");
    let (again, _) = draw(&format!("--seed {seed}"));
    assert_eq!(first, again);
    let (other, _) = draw(&format!("--seed {}", seed.as_u64().unwrap() + 1));
    assert_ne!(first, other);
    for column in 3..=5 {
        let values: std::collections::HashSet<&String> = first.iter().map(|row| &row[column]).collect();
        assert!(
            values.len() > 1,
            "column {column} is drawn anew for each attempt: {first:?}"
        );
    }
}

#[test]
fn the_overrides_of_the_command_line_are_what_is_run() {
    let sandbox = Sandbox::new();
    let report = sandbox
        .run("contend expiry-and-release --sessions guest=6 --sessions sweeper=3 --rounds 2 --pool 9 --seed 1 --format json")
        .exits(0)
        .json();
    let race = &report["race"];
    let sessions: Vec<&Value> = list(&race["groups"]).iter().map(|group| &group["sessions"]).collect();
    assert_eq!(sessions, [6, 3]);
    assert_eq!(
        (list(&race["rounds"]).len(), &race["pools"][0]["size"], &race["seed"]),
        (2, &9.into(), &1.into())
    );
    let attempts: u64 = super::outcomes(&race["rounds"][0]["attempts"])
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(attempts, 9);
}
