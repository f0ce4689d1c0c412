//! The examples of `docs/reports.md` are what the tool writes. `UPDATE_DOCS=1` puts what it writes now into the page.

use std::fs;

use serde_json::Value;

use crate::common::{Sandbox, project};

/// What differs from run to run, between what stands before and behind it.
const CHANGING: &[(&str, &str)] = &[
    ("time=\"", "\""),
    ("timestamp=\"", "\""),
    ("held ", "s"),
    ("at LSN ", ","),
    ("db_race_run_timestamp_seconds{run=\"nightly\"} ", "\n"),
    ("db_race_run_duration_seconds{run=\"nightly\"} ", "\n"),
    ("seconds{run=\"nightly\",database=\"localhost:5432/shop\"} ", "\n"),
    ("severity=\"error\"} 0.0", "\n"),
    ("fsync off), ", "s"),
    ("_ms\": ", "\n"),
    ("\"started_at\": ", "\n"),
    ("\"startTimeUtc\": ", "\n"),
    ("\"taken_at\": ", "\n"),
    ("\"lsn\": ", "\n"),
    ("\"xmin\": ", "\n"),
    ("\"version_number\": ", "\n"),
    ("LineHash\": \"", "\""),
    ("dbRaceKey/v1\": \"", "\""),
    ("<sub>PostgreSQL 17.6 · ", " s"),
];

#[test]
fn the_page_shows_what_is_written() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table accounts (account_id int primary key, balance int not null)");
    server.exec("insert into accounts values (1, 100), (2, -30), (7, -100)");
    let page = fs::read_to_string(project().join("docs/reports.md")).unwrap();
    sandbox.write(
        "checks/no_overdraft.sql",
        &block(&page, "checks/no_overdraft.sql").unwrap().2,
    );
    let (_, _, command) = block(&page, "command").unwrap();
    let command = command.replace("\\\n", " ").replace("\"$DATABASE_URL\"", &server.url());
    let mut command = sandbox.command(command.trim().strip_prefix("db-race ").unwrap());
    command.env("GITHUB_STEP_SUMMARY", sandbox.dir().join("summary.md"));
    let run = sandbox.run_command(command).exits(2);

    let report: Value = serde_json::from_slice(&fs::read(sandbox.dir().join("out/report.json")).unwrap()).unwrap();
    let address = report["databases"][0]["address"].as_str().unwrap();
    let version = report["server"]["version"].as_str().unwrap();
    let bare = version.split(' ').next().unwrap();
    let (_, annotations) = run
        .stdout
        .rsplit_once("::\n::")
        .map(|(_, a)| ((), format!("::{a}")))
        .unwrap();
    let mut fresh = page.clone();
    for name in [
        "report.json",
        "junit.xml",
        "report.tap",
        "db-race.sarif",
        "nightly.prom",
        "report.md",
        "annotations",
    ] {
        let text = match name {
            "annotations" => annotations.clone(),
            name => fs::read_to_string(sandbox.dir().join("out").join(name)).unwrap(),
        };
        let text = text
            .replace(address, "postgres@localhost:5432/shop")
            .replace(address.split_once('@').unwrap().1, "localhost:5432/shop")
            .replace(version, "17.6")
            .replace(&format!("PostgreSQL {bare}"), "PostgreSQL 17.6")
            .replace(&report["server"]["version_number"].to_string(), "170006")
            .replace(env!("CARGO_PKG_VERSION"), "0.1.0");
        let (start, end, _) = block(&fresh, name).unwrap_or_else(|| panic!("docs/reports.md shows no {name}"));
        fresh.replace_range(start..end, &text);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(project().join("docs/reports.md"), &fresh).unwrap();
        return;
    }
    let (page, fresh) = (steady(&page), steady(&fresh));
    for (was, is) in page.lines().zip(fresh.lines()) {
        assert_eq!(
            was, is,
            "docs/reports.md is not what is written; `UPDATE_DOCS=1 cargo test --test reports page` mends it"
        );
    }
    assert_eq!(page.lines().count(), fresh.lines().count());
}

/// The inside of the fence behind `<!-- NAME -->`: where it begins and ends, and what it is.
fn block(page: &str, name: &str) -> Option<(usize, usize, String)> {
    let mark = format!("<!-- {name} -->\n");
    let at = page.find(&mark)? + mark.len();
    let fence: String = page[at..].chars().take_while(|c| *c == '`').collect();
    let start = at + page[at..].find('\n')? + 1;
    let end = start + page[start..].find(&format!("\n{fence}\n"))? + 1;
    Some((start, end, page[start..end].to_string()))
}

/// The text with `…` for what changes.
fn steady(text: &str) -> String {
    let mut text = text.to_string();
    for (before, behind) in CHANGING {
        let mut parts = text.split(before);
        let mut steady = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let rest = part.find(behind).map_or("", |at| &part[at..]);
            steady.push_str(&format!("{before}…{rest}"));
        }
        text = steady;
    }
    text
}
