//! `db-race list`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::{Sandbox, project};
use serde_json::Value;

fn texts<'a>(items: &'a Value, field: &str) -> Vec<&'a str> {
    let items = items.as_array().unwrap().iter();
    items
        .map(|item| item[field].as_str().unwrap_or_else(|| panic!("no {field}: {item}")))
        .collect()
}

/// The names of the project's files of a kind, without the ending.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project().join(folder)).unwrap();
    let name = |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(ending)?.to_string());
    let mut names: Vec<String> = entries.filter_map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn json_has_every_bundled_file_and_what_scripts_need_to_run_it() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("list --format json").exits(0);
    assert_eq!(run.stderr, "");
    let all = run.json();

    let scenarios = texts(&all["scenarios"], "name");
    let mut bundled = [files("scenarios/hotel", ".toml"), files("scenarios/pool", ".toml")].concat();
    bundled.sort();
    assert_eq!(sorted(&scenarios), bundled);
    for name in ["last-room", "last-room-nights", "race-condition", "too-small"] {
        assert!(scenarios.contains(&name), "{scenarios:?}");
    }
    assert!(texts(&all["scenarios"], "title").iter().all(|title| !title.is_empty()));
    assert!(
        texts(&all["scenarios"], "system")
            .iter()
            .all(|system| *system == "hotel")
    );

    assert_eq!(sorted(&texts(&all["bugs"], "name")), files("sql/hotel/bugs", ".sql"));
    assert!(
        texts(&all["bugs"], "scenario")
            .iter()
            .all(|name| scenarios.contains(name))
    );
    assert!(texts(&all["bugs"], "title").iter().all(|title| !title.is_empty()));
    assert!(
        texts(&all["bugs"], "replaces")
            .iter()
            .all(|procedure| !procedure.is_empty())
    );
    let kinds = texts(&all["bugs"], "kind");
    assert!(kinds.contains(&"plain") && kinds.contains(&"concurrency"), "{kinds:?}");

    let checks = texts(&all["checks"], "id");
    let mut folders = vec!["hotel".to_string()];
    folders.extend(texts(&all["packs"], "name").iter().map(|name| name.to_string()));
    let in_folder = |folder: &String| match project().join("checks").join(folder).is_dir() {
        true => files(&format!("checks/{folder}"), ".sql"),
        false => files(&format!("checks/packs/{folder}"), ".sql"),
    };
    let mut ids: Vec<String> = folders
        .iter()
        .flat_map(|folder| {
            in_folder(folder)
                .into_iter()
                .map(move |name| format!("{folder}.{name}"))
        })
        .collect();
    ids.sort();
    assert_eq!(sorted(&checks), ids);
    assert!(folders.contains(&"booking".to_string()), "{folders:?}");
    assert!(
        texts(&all["checks"], "severity")
            .iter()
            .all(|severity| ["error", "warn"].contains(severity))
    );
    for breaks in texts(&all["bugs"], "breaks") {
        let is_rule = breaks == "deadlocks" || breaks.ends_with(".accepted");
        assert!(
            is_rule || checks.contains(&breaks),
            "{breaks} is neither a rule nor a check"
        );
    }
}

#[test]
fn text_has_the_commands_that_run_each() {
    let sandbox = Sandbox::new();
    let all = sandbox.run("list --format json").exits(0).json();
    let shown = sandbox.run("list").exits(0);
    assert!(!shown.stdout.contains('\x1b'));
    let line_with = |words: &str, title: &str| {
        let found = shown
            .stdout
            .lines()
            .any(|line| line.contains(words) && line.contains(title));
        assert!(found, "no line has `{words}` and `{title}`\n{shown}");
    };
    for scenario in all["scenarios"].as_array().unwrap() {
        line_with(scenario["name"].as_str().unwrap(), scenario["title"].as_str().unwrap());
    }
    for bug in all["bugs"].as_array().unwrap() {
        let text = |field: &str| bug[field].as_str().unwrap();
        line_with(&format!("{} --bug {}", text("scenario"), text("name")), text("title"));
    }
    let packs = all["packs"].as_array().unwrap();
    for pack in packs {
        line_with(pack["name"].as_str().unwrap(), pack["title"].as_str().unwrap());
    }
    let pack_of = |check: &Value| {
        let folder = check["id"].as_str().unwrap().split('.').next().unwrap().to_string();
        packs
            .iter()
            .find(|pack| pack["name"] == folder.as_str())
            .map(|_| folder)
    };
    for check in all["checks"].as_array().unwrap() {
        let name = check["id"].as_str().unwrap().replace('.', "/");
        let title = check["title"].as_str().unwrap();
        match pack_of(check) {
            None => line_with(&name, title),
            // those of a pack are many, and shown when asked for
            Some(pack) => {
                let shown = sandbox.run(&format!("list {pack}")).exits(0);
                assert!(
                    shown
                        .stdout
                        .lines()
                        .any(|line| line.contains(&name) && line.contains(title)),
                    "{name}\n{shown}"
                );
            }
        }
    }
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    names.sort();
    names
}
