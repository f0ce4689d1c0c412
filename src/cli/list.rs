//! `db-race list`

use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::{self, Failure};
use super::output;
use crate::bundled::{self, Shelf};
use crate::scenario::{self, Overrides};
use crate::system::{BugKind, System};
use crate::verify::pack::Pack;
use crate::verify::{self, Check, Severity};

#[derive(Args, Debug)]
pub(super) struct List {
    /// Show the checks of these folders only: a bundled name, a path, or a map file
    names: Vec<String>,
    /// The form of the list on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

/// The form of the list.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// One document with everything in it
    Json,
}

#[derive(Serialize)]
struct Everything {
    scenarios: Vec<ScenarioItem>,
    bugs: Vec<BugItem>,
    packs: Vec<PackItem>,
    checks: Vec<CheckItem>,
}

/// A folder of checks for a database of the user's.
#[derive(Serialize)]
struct PackItem {
    name: String,
    title: String,
    checks: usize,
    /// Whether its names are given to the user's tables by a map file.
    takes_map: bool,
}

#[derive(Serialize)]
struct ScenarioItem {
    name: String,
    system: String,
    title: String,
    about: String,
}

#[derive(Serialize)]
struct BugItem {
    name: String,
    system: String,
    title: String,
    replaces: String,
    scenario: String,
    breaks: String,
    kind: BugKind,
}

#[derive(Serialize)]
struct CheckItem {
    id: String,
    title: String,
    severity: Severity,
    tags: Vec<String>,
    #[serde(skip)]
    is_of_pack: bool,
}

impl List {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let json = |error| Failure::new(exit::USAGE, error);
        let text = if self.names.is_empty() {
            let everything = collect()?;
            match self.format {
                Form::Json => serde_json::to_string_pretty(&everything).map_err(json)?,
                Form::Text => text(&everything),
            }
        } else {
            let mut checks = Vec::new();
            for name in &self.names {
                checks.extend(verify::find(name, Path::new(""))?.into_iter().map(|c| item(c, false)));
            }
            match self.format {
                Form::Json => serde_json::to_string_pretty(&checks).map_err(json)?,
                Form::Text => check_lines(&checks).join("\n"),
            }
        };
        output::print(&text)?;
        Ok(exit::HELD)
    }
}

fn collect() -> Result<Everything, Failure> {
    let mut everything = Everything {
        scenarios: Vec::new(),
        bugs: Vec::new(),
        packs: Vec::new(),
        checks: Vec::new(),
    };
    for name in bundled::scenario_names() {
        let plan = scenario::load(&name, &Overrides::default())?;
        everything.scenarios.push(ScenarioItem {
            name: plan.name,
            system: plan.system.map(|s| s.name).unwrap_or_default(),
            title: plan.title,
            about: plan.about,
        });
    }
    for name in Shelf::Sql.folders() {
        for bug in System::find(&name, Path::new(""))?.bugs()? {
            everything.bugs.push(BugItem {
                name: bug.name,
                system: name.clone(),
                title: bug.header.title,
                replaces: bug.header.replaces,
                scenario: bug.header.scenario,
                breaks: bug.header.breaks,
                kind: bug.header.kind,
            });
        }
    }
    let systems = Shelf::Sql.folders();
    let packs = Pack::bundled()?;
    for folder in bundled::check_folders() {
        let checks = verify::find(&folder, Path::new(""))?;
        let is_of_pack = !systems.contains(&folder);
        if is_of_pack {
            let name = folder.rsplit('/').next().unwrap_or(&folder);
            let pack = packs.iter().find(|p| p.name == name);
            everything.packs.push(PackItem {
                name: name.to_string(),
                title: pack.map_or(about(name), |p| &p.title).to_string(),
                checks: checks.len(),
                takes_map: pack.is_some(),
            });
        }
        everything
            .checks
            .extend(checks.into_iter().map(|c| item(c, is_of_pack)));
    }
    Ok(everything)
}

/// What folders are for that have no `pack.toml` to say so.
fn about(folder: &str) -> &'static str {
    match folder {
        "structure" => "any database, from its catalogs: what will go wrong, and what already has",
        "tpcc" => "TPC-C's consistency conditions, on its own tables",
        _ => "",
    }
}

fn item(check: Check, is_of_pack: bool) -> CheckItem {
    CheckItem {
        id: check.id,
        title: check.title,
        severity: check.severity,
        tags: check.tags,
        is_of_pack,
    }
}

fn check_lines<'a>(checks: impl IntoIterator<Item = &'a CheckItem> + Clone) -> Vec<String> {
    let name = |c: &CheckItem| c.id.replacen('.', "/", 1);
    let width = checks.clone().into_iter().map(|c| name(c).len()).max().unwrap_or(0);
    let line = |c: &CheckItem| format!("  {:width$}  {}", name(c), c.title);
    checks.into_iter().map(line).collect()
}

fn text(everything: &Everything) -> String {
    let mut lines = vec!["Scenarios (db-race contend NAME)".to_string()];
    let width = everything.scenarios.iter().map(|s| s.name.len()).max().unwrap_or(0);
    lines.extend(
        everything
            .scenarios
            .iter()
            .map(|s| format!("  {:width$}  {}", s.name, s.title)),
    );
    lines.push("\nBugs (db-race contend SCENARIO --bug NAME)".into());
    let command = |b: &BugItem| format!("{} --bug {}", b.scenario, b.name);
    let width = everything.bugs.iter().map(|b| command(b).len()).max().unwrap_or(0);
    lines.extend(
        everything
            .bugs
            .iter()
            .map(|b| format!("  {:width$}  {}", command(b), b.title)),
    );
    lines.push("\nChecks of the bundled systems (db-race verify NAME)".into());
    lines.extend(check_lines(everything.checks.iter().filter(|c| !c.is_of_pack)));
    for (title, takes_map) in [
        (
            "Checks for your database (db-race verify NAME --url URL; db-race list NAME shows them)",
            false,
        ),
        (
            "Packs: checks for your tables, under the names that a map gives (db-race init --pack NAME)",
            true,
        ),
    ] {
        if everything.packs.iter().any(|p| p.takes_map == takes_map) {
            lines.push(format!("\n{title}"));
            lines.extend(pack_lines(everything, takes_map));
        }
    }
    lines.join("\n")
}

fn pack_lines(everything: &Everything, takes_map: bool) -> Vec<String> {
    let width = everything.packs.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let packs = everything.packs.iter().filter(|p| p.takes_map == takes_map);
    packs
        .map(|p| format!("  {:width$}  {:2} checks  {}", p.name, p.checks, p.title))
        .collect()
}
