//! The README's commands do what the README says, on the README's files.
#![allow(clippy::unwrap_used, reason = "a test's helpers stop the test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use db_race::postgres::Target;
use db_race::postgres::server::{Options, Server};

const README: &str = include_str!("../README.md");

/// Writes each block behind `<!-- file: NAME -->` to that file.
fn write_files(folder: &Path) {
    for part in README.split("<!-- file: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n").unwrap();
        let body = rest.split_once("\n").unwrap().1;
        let body = body.split_once("```\n").unwrap().0;
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }
}

/// The lines `$ db-race ...   # exit N`.
fn commands() -> Vec<(&'static str, i32)> {
    let lines = README.lines().filter_map(|l| l.strip_prefix("$ "));
    lines
        .map(|line| {
            let (command, code) = line.split_once("# exit ").unwrap();
            (command.trim(), code.trim().parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn commands_do_what_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let server = Server::start(&Options::default()).await.unwrap();
    let target = Target::new(&server.config());
    let schema = fs::read_to_string(folder.path().join("accounts/schema.sql")).unwrap();
    let client = target.connect("test").await.unwrap();
    client.batch_execute(&schema).await.unwrap();

    let commands = commands();
    assert!(commands.len() >= 3);
    for (command, code) in commands {
        let db_race = command.replacen("db-race", env!("CARGO_BIN_EXE_db-race"), 1);
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(db_race)
            .current_dir(folder.path())
            .env("DATABASE_URL", server.url());
        let output = tokio::task::spawn_blocking(move || shell.output())
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command}\n{said}");
    }

    // the same scenario with `system = "accounts"` runs on a server of its own
    let path = folder.path().join("overdraft.toml");
    let scenario = format!("system = \"accounts\"\n{}", fs::read_to_string(&path).unwrap());
    fs::write(&path, scenario).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_db-race"));
    command
        .args(["contend", "overdraft.toml"])
        .current_dir(folder.path())
        .env_remove("DATABASE_URL");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.stop().await.unwrap();
}
