//! `db-race check lint`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bundled::Folder;
use crate::cli::exit::{self, Failure};
use crate::cli::{Where, output};
use crate::source::FileError;
use crate::verify::lint::{self, Level, Problem};
use crate::verify::{self, Check, Options};

#[derive(Args, Debug)]
pub(super) struct Lint {
    /// Check files, folders of them, or bundled names (`db-race list`)
    #[arg(required = true)]
    checks: Vec<String>,
    #[command(flatten)]
    place: Where,
}

impl Lint {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let (mut checks, mut wrong) = (Vec::new(), Vec::new());
        for name in &self.checks {
            for found in each(name)? {
                match found {
                    Ok(found) => checks.extend(found),
                    Err(error) => wrong.push(error.to_string()),
                }
            }
        }
        let mut problems: Vec<Vec<Problem>> = checks.iter().map(lint::lint).collect();
        for (problems, twice) in problems.iter_mut().zip(twice(&checks)) {
            problems.extend(twice);
        }
        if let Some(target) = self.place.flagged_target()? {
            let options = Options {
                allow_superuser: true,
                ..Options::default()
            };
            // nothing is run
            let inspected = verify::inspect(&target, &checks, &options).await?;
            for (problems, more) in problems.iter_mut().zip(inspected) {
                problems.extend(more);
            }
        }
        let mut lines = wrong
            .iter()
            .map(|error| format!("error: {error}\n"))
            .collect::<Vec<_>>();
        for (check, problems) in checks.iter().zip(&problems) {
            lines.extend(problems.iter().map(|p| line(check, p)));
        }
        let count = |level| problems.iter().flatten().filter(|p| p.level == level).count();
        let errors = wrong.len() + count(Level::Error);
        let warnings = count(Level::Warning);
        lines.push(format!(
            "{}, {}, {}, {}",
            several(checks.len() + wrong.len(), "check"),
            several(errors, "error"),
            several(warnings, "warning"),
            several(count(Level::Note), "note")
        ));
        output::print(&lines.join("\n"))?;
        Ok(match (errors, warnings) {
            (0, 0) => exit::HELD,
            (0, _) => exit::WARNED,
            _ => exit::VIOLATED,
        })
    }
}

/// In the form that editors and compilers know.
fn line(check: &Check, problem: &Problem) -> String {
    let name = check
        .source
        .name
        .strip_suffix(" (bundled)")
        .unwrap_or(&check.source.name);
    format!(
        "{name}:{}: {}: {}: {}",
        check.statement_line(),
        problem.level.name(),
        check.id,
        problem.text
    )
}

fn several(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

/// Each file by itself, so that one that is wrong hides no other one.
fn each(name: &str) -> Result<Vec<Result<Vec<Check>, FileError>>, Failure> {
    let here = Path::new("");
    let path = Path::new(name);
    if !path.is_dir() {
        return Ok(vec![verify::find(name, here)]);
    }
    let mut files = Vec::new();
    walk(&Folder::Disk(path.to_path_buf()), path, &mut files)?;
    if files.is_empty() {
        return Ok(vec![verify::find(name, here)]);
    }
    Ok(files
        .iter()
        .map(|file| verify::find(&file.display().to_string(), here))
        .collect())
}

fn walk(folder: &Folder, path: &Path, files: &mut Vec<PathBuf>) -> Result<(), FileError> {
    files.extend(folder.sql_files("")?.iter().map(|name| path.join(name)));
    for inner in folder.folders()? {
        if let Folder::Disk(path) = &inner {
            walk(&inner, path, files)?;
        }
    }
    Ok(())
}

/// For each check, that another one before it has its id.
fn twice(checks: &[Check]) -> Vec<Option<Problem>> {
    let mut known: BTreeMap<&str, &Check> = BTreeMap::new();
    let mut found = Vec::new();
    for check in checks {
        let other = known
            .get(check.id.as_str())
            .filter(|other| other.source.name != check.source.name);
        found.push(other.map(|other| Problem {
            level: Level::Error,
            text: format!("{} has the same id", other.source.name),
        }));
        known.entry(&check.id).or_insert(check);
    }
    found
}
