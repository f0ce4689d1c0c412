//! GitHub Actions: annotations, the step summary, the action and the example of a workflow.

use std::fs;
use std::process::Command;

use crate::common::{Sandbox, project};
use crate::parsers::parsed;
use crate::verify::checks;

/// The tool as a step of a workflow runs it, in a folder of the repository.
fn on_github(sandbox: &Sandbox, words: &str) -> Command {
    let mut command = sandbox.command(words);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", sandbox.dir())
        .env("GITHUB_STEP_SUMMARY", sandbox.dir().join("summary.md"))
        .current_dir(sandbox.dir().join("checks"));
    command
}

#[test]
fn annotations_and_a_summary_come_by_themselves() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    checks(&sandbox);
    sandbox.write("summary.md", "of the step before\n");
    let run = sandbox
        .run_command(on_github(&sandbox, &format!("verify . --url {}", server.url())))
        .exits(2);

    // nobody but us gives commands: between the two lines the runner takes none
    let mut lines = run.stdout.lines();
    let word = lines.next().unwrap().strip_prefix("::stop-commands::").unwrap();
    let text: Vec<&str> = lines.by_ref().take_while(|l| *l != format!("::{word}::")).collect();
    assert!(word.len() >= 32 && text[0].starts_with("FAILED"), "{run}");
    let commands: Vec<&str> = lines.collect();
    assert_eq!(commands.len(), 3, "{run}");
    assert!(
        commands[0].starts_with("::error file=checks/b_nasty.sql,line=9,title=t.nasty%3A 7 rows::t.nasty"),
        "{run}"
    );
    assert!(commands[0].contains("::error::50%25\\r\\n"), "{run}");
    assert!(
        commands[1].starts_with("::error file=checks/d_undecided.sql,line=6,title=t.undecided%3A could not"),
        "{run}"
    );
    assert!(
        commands[2].starts_with("::warning file=checks/c_warn.sql,line="),
        "{run}"
    );

    let summary = fs::read_to_string(sandbox.dir().join("summary.md")).unwrap();
    assert!(
        summary.starts_with("of the step before\n## ❌ db-race verify: failed"),
        "{summary}"
    );
}

#[test]
fn annotations_can_be_switched_off_and_never_mix_with_a_document() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    checks(&sandbox);
    let verify = format!("verify . --url {}", server.url());
    let mut off = on_github(&sandbox, &verify);
    off.env("DB_RACE_NO_GITHUB", "1");
    let run = sandbox.run_command(off).exits(2);
    assert!(!run.stdout.contains("::error file"), "{run}");
    assert!(!sandbox.dir().join("summary.md").exists());

    let run = sandbox
        .run_command(on_github(&sandbox, &format!("{verify} --format json")))
        .exits(2);
    assert_eq!(run.json()["verdict"]["outcome"], "failed");
    assert!(run.stderr.contains("\n::warning file="), "{run}");

    // asked for, it comes anywhere
    let run = sandbox
        .run(&format!(
            "verify checks/d_undecided.sql --url {} --report github",
            server.url()
        ))
        .exits(3);
    assert!(run.stdout.contains("\n::error file=checks/d_undecided.sql"), "{run}");
}

#[test]
fn a_run_that_could_not_be_made_is_annotated() {
    let sandbox = Sandbox::new();
    checks(&sandbox);
    let run = sandbox
        .run_command(on_github(&sandbox, "verify . --url postgresql://u@127.0.0.1:1/db"))
        .exits(69);
    assert!(run.stdout.starts_with("::error title=the run%3A"), "{run}");
}

#[test]
fn the_action_and_the_workflow_are_what_github_takes() {
    parsed("action", &project().join("action.yml"));
    parsed("workflow", &project().join("docs/github-workflow.yml"));
    parsed("schema", &project().join("docs/report.schema.json"));
}
