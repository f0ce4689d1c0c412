//! cron, systemd and the dashboard, as the documentation has them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Shop;
use crate::common::project;
use crate::common::run::{Run, Running};
use crate::receiver::{Manner, Receiver};

fn page() -> String {
    fs::read_to_string(project().join("docs/audit.md")).unwrap()
}

/// A fenced block of the page that begins so.
fn block(begins: &str) -> String {
    let page = page();
    let blocks = page.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter(|block| block.starts_with(begins));
    let block = blocks.next().unwrap_or_else(|| panic!("no block begins with {begins}"));
    block.split_once('\n').unwrap().1.to_string()
}

/// A user, as cron knows him.
struct User {
    home: std::path::PathBuf,
}

impl User {
    fn new(shop: &Shop) -> User {
        let home = shop.sandbox.dir().join("home");
        fs::create_dir_all(home.join(".cargo/bin")).unwrap();
        fs::create_dir_all(home.join(".config/db-race")).unwrap();
        symlink(env!("CARGO_BIN_EXE_db-race"), home.join(".cargo/bin/db-race")).unwrap();
        symlink(shop.sandbox.dir().join("checks"), home.join("checks")).unwrap();
        User { home }
    }

    /// Runs the lines of a crontab once, as cron(8) and crontab(5) say: with an environment of its own, in the home directory, by
    /// SHELL; an unescaped `%` ends the command, and what is behind goes to its stdin.
    fn cron(&self, crontab: &str) -> Vec<Run> {
        let mut environment = vec![
            ("HOME".to_string(), self.home.to_str().unwrap().to_string()),
            ("LOGNAME".into(), "dba".into()),
            ("SHELL".into(), "/bin/sh".into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ];
        let mut runs = Vec::new();
        for line in crontab
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let is_setting = |name: &str| name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
            match line.split_once('=') {
                Some((name, value)) if is_setting(name.trim()) => {
                    environment.push((name.trim().into(), value.trim().trim_matches(['"', '\'']).into()));
                }
                _ => runs.push(self.job(line, &environment)),
            }
        }
        runs
    }

    fn job(&self, line: &str, environment: &[(String, String)]) -> Run {
        let mut words = line.splitn(6, ' ');
        for _ in 0..5 {
            let field = words.next().unwrap();
            assert!(
                field.chars().all(|c| "0123456789*/,-".contains(c)),
                "{field} is no time: {line}"
            );
        }
        let line = words.next().unwrap().trim().replace("\\%", "\0");
        let command = line.split('%').next().unwrap().replace('\0', "%");
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(command)
            .env_clear()
            .envs(environment.iter().cloned())
            .current_dir(&self.home);
        Running::start(shell).wait()
    }

    fn env_file(&self, text: &str) {
        fs::write(self.home.join(".config/db-race/env"), text).unwrap();
    }
}

/// The page's file of settings, for this database and this service.
fn settings(shop: &Shop, receiver: &Receiver) -> String {
    let text = block("sh\nDATABASE_URL=");
    assert!(
        text.contains("'postgresql://audit@db.example.com/shop'") && text.contains("'https://hc-ping.com/your-uuid'")
    );
    shop.server
        .exec("create role audit login; grant select on item to audit");
    let url = shop.server.url_of("audit@/postgres");
    let text = text.replace("postgresql://audit@db.example.com/shop", &url);
    text.replace("https://hc-ping.com/your-uuid", &receiver.url)
}

#[test]
fn the_crontab_of_the_page_works_as_it_is() {
    let shop = Shop::new();
    let user = User::new(&shop);
    let receiver = Receiver::start(Manner::Answer(200));
    user.env_file(&settings(&shop, &receiver));
    let crontab = block("crontab\n");
    let once = || {
        let mut runs = user.cron(&crontab);
        assert_eq!(runs.len(), 1, "the page has one line");
        runs.remove(0)
    };
    let silent = |code: i32| {
        let run = once().exits(code);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    };
    silent(0);
    shop.breaks(&[4]);
    once()
        .exits(2)
        .shows(&["new: 1", "id=4", "memory: ", ".local/state/db-race/audit.sqlite"]);
    silent(2);
    let lines = receiver.lines();
    assert_eq!(lines[..2], ["POST /geheim/start", "POST /geheim/0"]);
    assert_eq!(lines[4..], ["POST /geheim/start", "POST /geheim/2"]);
}

#[test]
fn systemd_understands_the_units_of_the_page() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        let _ = writeln!(std::io::stderr(), "skipped: there is no systemd-analyze");
        return;
    }
    let shop = Shop::new();
    let program = env!("CARGO_BIN_EXE_db-race");
    for name in ["db-race-audit.service", "db-race-audit.timer"] {
        let unit = block(&format!("ini\n# {name}\n")).replace("/usr/local/bin/db-race", program);
        shop.sandbox.write(&format!("units/{name}"), &unit);
    }
    let units = shop.sandbox.dir().join("units");
    let mut verify = Command::new("systemd-analyze");
    verify
        .arg("verify")
        .arg(units.join("db-race-audit.service"))
        .arg(units.join("db-race-audit.timer"));
    let run = Running::start(verify).wait().exits(0);
    // other units of the machine may have their faults
    assert!(!run.stderr.contains("db-race-audit"), "{run}");
}

#[test]
fn the_webhook_of_the_page_is_what_is_sent() {
    let shop = Shop::new();
    let receiver = Receiver::start(Manner::Answer(200));
    shop.breaks(&[1]);
    shop.audit(&format!("--webhook {}", receiver.url));
    let sent: Value = serde_json::from_str(&receiver.requests()[0].body).unwrap();
    let shown: Value = serde_json::from_str(&block("json\n")).unwrap();
    assert_eq!(names(&sent), names(&shown));
}

/// The names of all fields, with those above them.
fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| {
                let below = names(value).into_iter().map(|below| format!("{name}.{below}"));
                below.chain([name.clone()]).collect::<Vec<_>>()
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(names).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn the_waivers_of_the_page_are_right() {
    let shop = Shop::new();
    shop.sandbox.write("w.toml", &block("toml\n"));
    shop.audit("--waivers w.toml").exits(0);
}

#[test]
fn the_dashboard_is_whole() {
    let text = fs::read_to_string(project().join("docs/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert!(dashboard["id"].is_null() && dashboard["uid"].is_string() && dashboard["schemaVersion"].is_u64());
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(
            place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24,
            "{}",
            panel["title"]
        );
        for target in panel["targets"].as_array().unwrap() {
            assert!(target["expr"].as_str().unwrap().contains("db_race_"), "{target}");
        }
    }
}
