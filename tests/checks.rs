//! Every bundled check, on a primary and on its hot standby: it finds the rows that its fixtures plant and nothing else,
//! and nothing in a good state. `docs/checks.md` says what fixtures are.
//!
//! Nothing here knows a check by name: a new file in `checks/` is found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use common::database::Database;
use common::standby::Standby;
use common::{Sandbox, TestServer, project};
use db_race::postgres::server::Options;
use db_race::verify::{Check, RunOn, find};
use serde_json::{Value, json};

/// What fixtures may rely on beside PostgreSQL's defaults.
const SETTINGS: [(&str, &str); 4] = [
    ("max_prepared_transactions", "10"),
    ("wal_level", "logical"),
    ("max_replication_slots", "10"),
    ("track_commit_timestamp", "on"),
];

/// From here on a fixture changes nothing but its session, and is run on a standby as well.
const SESSION: &str = "-- session:\n";

#[test]
fn every_bundled_check_finds_its_planted_rows_and_nothing_else() {
    let folders = folders(&project().join("checks"));
    assert!(folders.len() >= 3, "{folders:?}");
    let queue: Mutex<VecDeque<PathBuf>> = Mutex::new(folders.into());
    let problems = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(2, |n| n.get().min(4));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                // roles, slots and sessions are seen in the whole cluster, so each worker has one of its own
                let cluster = Cluster::new();
                loop {
                    // its own statement, so that the queue isn't locked while the folder is tried
                    let next = queue.lock().unwrap().pop_front();
                    let Some(folder) = next else { break };
                    let found = cluster.try_folder(&folder);
                    problems.lock().unwrap().extend(found);
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_bundled_system_has_anything_wrong_in_its_structure() {
    let cluster = Cluster::new();
    for system in entries(&project().join("sql"))
        .into_iter()
        .filter(|path| path.join("schema.sql").is_file())
    {
        cluster.primary.exec("create database system");
        let database = Database::connect(&cluster.url("system"));
        for file in schema(&system) {
            database.exec(&fs::read_to_string(file).unwrap());
        }
        for (place, url) in cluster.urls("system") {
            let report = cluster.verify("structure", &url, &serde_json::Map::new());
            let wrong: Vec<&Value> = report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|check| !["held", "skipped"].contains(&check["decision"].as_str().unwrap()))
                .collect();
            assert!(wrong.is_empty(), "{} on the {place}: {wrong:#?}", system.display());
        }
        drop(database);
        cluster.drop_database("system");
    }
}

#[test]
fn the_page_about_structure_lists_its_checks() {
    let page = fs::read_to_string(project().join("docs/structure.md")).unwrap();
    let checks = find("structure", Path::new("")).unwrap();
    for check in &checks {
        let name = check.id.strip_prefix("structure.").unwrap();
        let line = format!("| `{name}` | {} | {} |", check.title, check.severity.name());
        assert!(page.contains(&line), "docs/structure.md does not have `{line}`");
        for (param, value) in &check.params {
            assert!(page.contains(&format!("`{param}` = {value}")), "{param}");
        }
    }
    let listed = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(listed, checks.len(), "docs/structure.md lists what isn't there");
}

/// The folders below one that hold checks, those with the most fixtures first.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for below in entries(dir).into_iter().filter(|path| path.is_dir()) {
        match below.ends_with("fixtures") {
            true => found.push(dir.to_owned()),
            false => found.extend(folders(&below)),
        }
    }
    found.sort_by_key(|folder| std::cmp::Reverse(sql_files(&folder.join("fixtures")).len()));
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn sql_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = entries(dir);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files
}

/// A file that plants rows, and what its first lines say.
struct Fixture {
    name: String,
    check: Check,
    finds: Value,
    pending: Value,
    /// What it finds on a standby, where that differs.
    standby: Option<Value>,
    params: serde_json::Map<String, Value>,
    text: String,
}

impl Fixture {
    fn read(path: &Path, checks: &[Check]) -> Fixture {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let check_name = name.split('.').next().unwrap();
        let is_it = |check: &&Check| Path::new(&*check.source.name).file_stem().unwrap() == check_name;
        let check = checks
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{name} is no check's fixture"));
        let text = fs::read_to_string(path).unwrap();
        let said = |what: &str| {
            let mut lines = text.lines().take_while(|line| line.starts_with("--"));
            let line = lines.find_map(|line| line.strip_prefix(&format!("-- {what}: ")));
            line.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")))
        };
        Fixture {
            finds: said("finds").unwrap_or_else(|| panic!("{name} does not say what it finds")),
            pending: said("pending").unwrap_or(json!([])),
            standby: said("standby"),
            params: said("params").unwrap_or(json!({})).as_object().unwrap().clone(),
            check: check.clone(),
            name,
            text,
        }
    }

    /// What sets up a session on the standby, where that is part of what is found.
    fn session(&self) -> Option<&str> {
        self.text.split_once(SESSION).map(|(_, session)| session)
    }
}

/// A primary and its hot standby.
struct Cluster {
    sandbox: Sandbox,
    // ended before the primary
    standby: Standby,
    primary: TestServer,
    version: u32,
}

impl Cluster {
    fn new() -> Cluster {
        let sandbox = Sandbox::in_memory();
        let primary = sandbox.server_with(Options {
            settings: SETTINGS.map(|(name, value)| (name.into(), value.into())).to_vec(),
            ..Options::default()
        });
        let standby = Standby::of(&primary, &sandbox.dir().join("standby"));
        let version: u32 = primary.value("show server_version_num").parse().unwrap();
        Cluster {
            sandbox,
            standby,
            primary,
            version: version / 10_000,
        }
    }

    /// What is wrong with a folder's checks.
    fn try_folder(&self, folder: &Path) -> Vec<String> {
        let checks = find(folder.to_str().unwrap(), Path::new("")).unwrap();
        let mut files = sql_files(&folder.join("fixtures"));
        files.retain(|file| !file.ends_with("schema.sql"));
        let fixtures: Vec<Fixture> = files.iter().map(|file| Fixture::read(file, &checks)).collect();
        let mut problems = Vec::new();
        for check in &checks {
            let mut of_check = fixtures.iter().filter(|fixture| fixture.check.id == check.id);
            if !of_check.any(|fixture| fixture.finds != json!([])) {
                problems.push(format!("{} has no fixture in which it finds anything", check.id));
            }
        }

        self.primary.exec("create database template");
        let template = Database::connect(&self.url("template"));
        for file in schema(folder) {
            template.exec(&fs::read_to_string(file).unwrap());
        }
        drop(template);
        for (place, url) in self.urls("template") {
            let report = self.verify(folder.to_str().unwrap(), &url, &serde_json::Map::new());
            for result in report["checks"].as_array().unwrap() {
                let check = checks.iter().find(|check| check.id == result["id"]).unwrap();
                // a condition may be for databases that have something more
                let is_for_others = result["decision"] == "skipped" && check.requires.predicate.is_some();
                if result["decision"] != self.decision(check, place, "held") && !is_for_others {
                    problems.push(format!(
                        "{} in a good state, on the {place}: {}",
                        check.id,
                        brief(result)
                    ));
                }
            }
        }
        for fixture in &fixtures {
            problems.extend(self.try_fixture(fixture));
        }
        self.drop_database("template");
        problems
    }

    fn try_fixture(&self, fixture: &Fixture) -> Vec<String> {
        self.primary.exec("create database planted template template");
        let before = self.shared();
        let session = Database::connect(&self.url("planted"));
        session.exec(&fixture.text);
        let mut problems = Vec::new();
        let mut on_standby = None;
        for (place, url) in self.urls("planted") {
            if place == "standby" {
                on_standby = fixture.session().map(|sql| {
                    let session = Database::connect(&url);
                    session.exec(sql);
                    session
                });
            }
            let report = self.verify(&fixture.check.source.name, &url, &fixture.params);
            if let Some(problem) = self.judge(fixture, place, &report["checks"][0]) {
                problems.push(format!("{}, on the {place}: {problem}", fixture.name));
            }
        }
        drop((session, on_standby));
        self.tidy(&before);
        self.drop_database("planted");
        problems
    }

    fn verify(&self, checks: &str, url: &str, params: &serde_json::Map<String, Value>) -> Value {
        let mut words = vec!["verify", checks, "--url", url, "--format", "json"];
        words.extend(["--sample", "1000", "--allow-superuser"]);
        let params: Vec<String> = params
            .iter()
            .map(|(name, value)| format!("--param={name}={}", value.as_str().unwrap()))
            .collect();
        words.extend(params.iter().map(String::as_str));
        self.sandbox.run_command(self.sandbox.command_of(&words)).json()
    }

    fn judge(&self, fixture: &Fixture, place: &str, result: &Value) -> Option<String> {
        let finds = fixture
            .standby
            .as_ref()
            .filter(|_| place == "standby")
            .unwrap_or(&fixture.finds);
        let violated = match (finds.as_array(), fixture.pending.as_array()) {
            (Some(finds), Some(pending)) if finds.is_empty() && pending.is_empty() => "held",
            (Some(finds), _) if finds.is_empty() => "pending",
            _ => "violated",
        };
        let decision = self.decision(&fixture.check, place, violated);
        if result["decision"] != decision {
            return Some(format!("{decision} was expected, not {}", brief(result)));
        }
        if decision == "skipped" {
            return None;
        }
        let keys = |is_pending: bool| {
            let findings = result["findings"].as_array().unwrap().iter();
            let of_kind = findings.filter(|finding| finding["pending"].as_bool().unwrap_or(false) == is_pending);
            sorted(of_kind.map(|finding| &finding["key"]))
        };
        for (is_pending, expected) in [(false, finds), (true, &fixture.pending)] {
            let expected = sorted(expected.as_array().unwrap());
            if keys(is_pending) != expected {
                return Some(format!("[{}] was expected, not {}", expected.join(", "), brief(result)));
            }
        }
        None
    }

    /// What is to become of a check: it may be for other servers.
    fn decision<'a>(&self, check: &Check, place: &str, otherwise: &'a str) -> &'a str {
        let requires = &check.requires;
        let is_for_this = requires.version_min.is_none_or(|min| min <= self.version)
            && requires.version_max.is_none_or(|max| self.version <= max)
            && match check.run_on {
                RunOn::Any => true,
                RunOn::Primary => place == "primary",
                RunOn::Standby => place == "standby",
            };
        if is_for_this { otherwise } else { "skipped" }
    }

    fn url(&self, database: &str) -> String {
        self.primary.url_of(&format!("postgres@/{database}"))
    }

    /// A database on both servers; on the standby it is as it is now.
    fn urls(&self, database: &str) -> impl Iterator<Item = (&'static str, String)> {
        ["primary", "standby"].into_iter().map(move |place| match place {
            "primary" => (place, self.url(database)),
            _ => {
                self.standby.catch_up();
                (place, self.standby.url_of(&format!("postgres@/{database}")))
            }
        })
    }

    /// What is not part of one database.
    fn shared(&self) -> Vec<Vec<String>> {
        self.primary.rows(
            "select 'role', rolname from pg_roles
             union all select 'slot', slot_name from pg_replication_slots
             union all select 'prepared', gid from pg_prepared_xacts",
        )
    }

    /// Removes what a fixture has made outside of its database.
    fn tidy(&self, before: &[Vec<String>]) {
        let planted = Database::connect(&self.url("planted"));
        // the database may have settings by now
        planted.exec("set role none");
        let mut made = self.shared();
        made.retain(|thing| !before.contains(thing));
        // a prepared transaction may hold locks
        made.sort_by_key(|thing| ["prepared", "slot", "role"].iter().position(|kind| *kind == thing[0]));
        for thing in made {
            let name = &thing[1];
            planted.exec(&match thing[0].as_str() {
                "prepared" => format!("rollback prepared '{name}'"),
                "slot" => format!("select pg_drop_replication_slot('{name}')"),
                _ => format!("drop owned by {name} cascade; drop role {name}"),
            });
        }
        let standby = Database::connect(&self.standby.url_of("postgres@/postgres"));
        standby.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active");
    }

    fn drop_database(&self, name: &str) {
        self.primary.exec(&format!("drop database {name} with (force)"));
    }
}

/// What a folder's fixtures start from: a schema of their own, the bundled system of that name, or nothing.
fn schema(folder: &Path) -> Vec<PathBuf> {
    let own = folder.join("fixtures/schema.sql");
    if own.is_file() {
        return vec![own];
    }
    let system = project().join("sql").join(folder.file_name().unwrap());
    let files = ["schema.sql", "procedures.sql", "seed.sql"].map(|file| system.join(file));
    files.into_iter().filter(|file| file.is_file()).collect()
}

/// What became of a check, in a line.
fn brief(result: &Value) -> String {
    let findings = result["findings"].as_array().unwrap().iter();
    let keys = sorted(findings.map(|finding| &finding["key"])).join(", ");
    format!(
        "{} [{keys}] {}",
        result["decision"],
        result["reason"].as_str().unwrap_or_default()
    )
}

fn sorted<'a>(rows: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().map(Value::to_string).collect();
    rows.sort();
    rows
}
