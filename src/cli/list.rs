//! `db-race list`

use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::{self, Failure};
use super::output;
use crate::bundled::{self, Shelf};
use crate::scenario::{self, Overrides};
use crate::system::{BugKind, System};
use crate::verify::{self, Severity};

#[derive(Args, Debug)]
pub(super) struct List {
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
    checks: Vec<CheckItem>,
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
}

impl List {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let everything = collect()?;
        let text = match self.format {
            Form::Json => serde_json::to_string_pretty(&everything).map_err(|e| Failure::new(exit::USAGE, e))?,
            Form::Text => text(&everything),
        };
        output::print(&text)?;
        Ok(exit::HELD)
    }
}

fn collect() -> Result<Everything, Failure> {
    let mut everything = Everything {
        scenarios: Vec::new(),
        bugs: Vec::new(),
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
    for name in Shelf::Checks.folders() {
        everything
            .checks
            .extend(verify::find(&name, Path::new(""))?.into_iter().map(|check| CheckItem {
                id: check.id,
                title: check.title,
                severity: check.severity,
            }));
    }
    Ok(everything)
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
    lines.push("\nChecks (db-race verify NAME)".into());
    let name = |c: &CheckItem| c.id.replace('.', "/");
    let width = everything.checks.iter().map(|c| name(c).len()).max().unwrap_or(0);
    lines.extend(
        everything
            .checks
            .iter()
            .map(|c| format!("  {:width$}  {}", name(c), c.title)),
    );
    lines.join("\n")
}
