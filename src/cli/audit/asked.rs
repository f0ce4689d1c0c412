//! What an audit is asked for: where, which suite, and who answers for what.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Audit;
use crate::audit::{self, Checks, Waivers};
use crate::bundled::Shelf;
use crate::cli::exit::{self, Failure};
use crate::verify::{self, Check, Named};

impl Audit {
    pub(super) fn databases(&self) -> Result<Vec<Named>, Failure> {
        let listed = self.checks.listed()?;
        if !listed.is_empty() {
            return match self.place.flagged_target()? {
                Some(_) => Err(Failure::new(
                    exit::USAGE,
                    "--databases says where, so no other flag can",
                )),
                None => Ok(listed),
            };
        }
        let databases: Vec<Named> = self.place.targets()?.into_iter().map(Named::from).collect();
        match databases.is_empty() {
            false => Ok(databases),
            true => Err(Failure::new(
                exit::USAGE,
                "an audit needs a database: give --url, -h or -d, or set DATABASE_URL, PGSERVICE or PGHOST",
            )),
        }
    }

    /// What tells runs apart that are not each other's successors.
    pub(super) fn suite(&self, checks: &[Check], databases: &[String]) -> String {
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        format!("{} on {}", ids.join(" "), databases.join(" "))
    }

    /// The name of the suite, where none of its checks is left out: only such a run can miss one. What its checks are made of is its name, so
    /// suites that share a memory are kept apart, wherever they are run.
    pub(super) fn whole_suite(&self, checks: &[Check]) -> Result<Option<String>, Failure> {
        let mut all = BTreeSet::new();
        for name in &self.checks.checks {
            all.extend(verify::find(name, Path::new(""))?.into_iter().map(|check| check.id));
        }
        let is_whole = all.iter().all(|id| checks.iter().any(|check| check.id == *id));
        let path = |name: &String| match std::fs::canonicalize(name) {
            Ok(path) => path.display().to_string(),
            // it is in the binary
            Err(_) => name.clone(),
        };
        let names: BTreeSet<String> = self.checks.checks.iter().map(path).collect();
        Ok(is_whole.then(|| names.into_iter().collect::<Vec<_>>().join(" ")))
    }

    /// The waivers of the file that is named, or of those beside the checks.
    pub(super) fn waivers(&self, checks: &[Check], remembered: Vec<String>) -> Result<Waivers, Failure> {
        let mut known: Checks = remembered.into_iter().map(|id| (id, None)).collect();
        for folder in Shelf::Checks.folders() {
            let bundled = verify::find(&folder, Path::new("/nonexistent"))?;
            known.extend(bundled.into_iter().map(|check| (check.id, Some(check.key))));
        }
        known.extend(checks.iter().map(|check| (check.id.clone(), Some(check.key.clone()))));
        if let Some(path) = &self.waivers {
            return Ok(Waivers::read(path, &known)?);
        }
        let beside: Vec<PathBuf> = self
            .checks
            .checks
            .iter()
            .map(|name| Path::new(name).join("waivers.toml"))
            .filter(|path| path.is_file())
            .collect();
        match beside.as_slice() {
            [] => Ok(Waivers::default()),
            [path] => Ok(Waivers::read(path, &known)?),
            [first, second, ..] => {
                let (first, second) = (first.display(), second.display());
                let why = format!("there are waivers in {first} and in {second}: say which by --waivers");
                Err(Failure::new(exit::USAGE, why))
            }
        }
    }
}

/// The name that findings of a database are remembered under.
pub(super) fn name_of(database: &Named) -> String {
    match database.name == database.target.address() {
        true => audit::place_name(&database.name).to_string(),
        false => database.name.clone(),
    }
}
