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
fn a_broken_rule_points_at_its_line_of_the_scenario() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int primary key, n int)");
    let scenario = "title = \"One winner\"\nrounds = 1\nsetup = \"delete from t; insert into t values (1, 0)\"\n\
                    [keys]\nsql = \"select id from t\"\n[[sessions]]\nname = \"g\"\nsessions = 3\n\
                    steps = [{ name = \"s\", sql = \"update t set n = n + 1 where id = :id\" }]\n\
                    [expect]\ndeadlocks = \"== 0\"\n\"s.accepted\" = \"== 1 per key\"\n";
    sandbox.write("checks/one.toml", scenario);
    let run = sandbox
        .run_command(on_github(&sandbox, &format!("contend one.toml --url {}", server.url())))
        .exits(2);
    assert!(
        run.stdout
            .contains("\n::error file=checks/one.toml,line=12,title=s.accepted == 1 per key%3A 3 for id=1"),
        "{run}"
    );
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

/// What a step of the action runs, without its indentation.
fn script(step: &str) -> String {
    let action = fs::read_to_string(project().join("action.yml")).unwrap();
    let (_, rest) = action.split_once(&format!("      id: {step}\n")).unwrap();
    let (_, rest) = rest.split_once("      run: |\n").unwrap();
    let lines = rest.lines().take_while(|l| l.is_empty() || l.starts_with("        "));
    lines.map(|l| format!("{}\n", l.trim())).collect()
}

#[test]
fn the_action_runs_what_it_is_told_and_keeps_the_reports() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    checks(&sandbox);
    sandbox.write(
        "checks/with space.sql",
        "-- /// db-race check\n-- id = \"space\"\n-- title = \"Space\"\n-- ///\nselect 1",
    );
    sandbox.write("output", "");
    let bin = sandbox.dir().join("db-race-bin/bin");
    fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_db-race"), bin.join("db-race")).unwrap();
    let output = Command::new("bash")
        // as GitHub runs it
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script("run")])
        .current_dir(sandbox.dir())
        .env("RUNNER_TEMP", sandbox.dir())
        .env("GITHUB_OUTPUT", sandbox.dir().join("output"))
        .env("COMMAND", "verify")
        .env("ARGS", "checks/a_held.sql 'checks/with space.sql' --jobs 2")
        .env("URL", server.url())
        // the test's own server knows one role only
        .env("DB_RACE_ALLOW_SUPERUSER", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let outputs = fs::read_to_string(sandbox.dir().join("output")).unwrap();
    assert!(outputs.contains("exit-code=2\n"), "{outputs}{stderr}");
    let reports = outputs.lines().find_map(|l| l.strip_prefix("reports=")).unwrap();
    for name in ["junit.xml", "db-race.sarif", "report.json", "report.md"] {
        assert!(
            fs::read_to_string(format!("{reports}/{name}"))
                .unwrap()
                .contains("space"),
            "{name}"
        );
    }
}

#[test]
fn the_action_and_the_workflow_are_what_github_takes() {
    parsed("action", &project().join("action.yml"));
    parsed("workflow", &project().join("docs/github-workflow.yml"));
    parsed("schema", &project().join("docs/report.schema.json"));
}
