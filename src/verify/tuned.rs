//! The overrides of `suite.toml`s, given to the checks that were found.

use std::path::Path;

use super::check::{overrides, with_hint};
use super::{Check, pack, suite};
use crate::bundled::{self, Folder, Shelf};
use crate::source::{FileError, Source};

/// Gives each check what the suites around it say of it, the outermost first.
pub(super) fn apply(checks: &mut [Check], suites: &[Source]) -> Result<(), FileError> {
    for suite in suites {
        for tuned in overrides(suite)? {
            if let Some(check) = checks.iter_mut().find(|check| check.id == *tuned.id.get_ref()) {
                tuned.apply(suite, check)?;
            }
        }
    }
    Ok(())
}

/// That there is each check of which the suites speak: among those that were found, those of the suite's folder, or the bundled ones.
pub(super) fn all_known(suites: &[Source], found: &[Check]) -> Result<(), FileError> {
    for suite in suites {
        let mut others: Option<Vec<String>> = None;
        for tuned in overrides(suite)? {
            let id = tuned.id.get_ref();
            if found.iter().any(|check| check.id == *id) {
                continue;
            }
            // looked for only when a check is not among those that are run now
            let others = others.get_or_insert_with(|| {
                let folder = Path::new(&*suite.name).parent().unwrap_or(Path::new(""));
                let mut ids = bundled_ids();
                ids_below(&Folder::Disk(folder.to_path_buf()), &mut ids);
                ids
            });
            if !others.contains(id) {
                let known = found.iter().map(|check| &check.id).chain(&*others);
                let error = suite.error(tuned.id.span(), format!("no check is called `{id}`"));
                return Err(with_hint(error, id, known.map(String::as_str)).into());
            }
        }
    }
    Ok(())
}

/// The suites of the folder in which a bundled name was given, and of those above it, as far as they speak of single checks: their defaults
/// are for checks of their own, and the file may be another tool's.
pub(super) fn for_bundled(base: &Path) -> Result<Vec<Source>, FileError> {
    let has_override = |line: &str| line.trim_start_matches([' ', '[']).starts_with("override");
    let mut suites = suite::above(base)?;
    suites.retain(|suite| suite.text.lines().any(has_override));
    Ok(suites)
}

fn bundled_ids() -> Vec<String> {
    let folders = bundled::check_folders().into_iter();
    let checks = folders.flat_map(|folder| {
        let folder = Folder::Bundled(Shelf::Checks, folder);
        suite::directly_in(&folder, &[]).unwrap_or_default()
    });
    checks.map(|check| check.id).collect()
}

/// The ids of a folder's checks, of its maps, and of those below. What can't be read has none: it is told when it is to be run.
fn ids_below(folder: &Folder, ids: &mut Vec<String>) {
    let read = |name: &String| folder.read(name).ok().flatten();
    for source in folder.files("", ".sql").unwrap_or_default().iter().filter_map(read) {
        ids.extend(Check::parse(source).map(|check| check.id));
    }
    let maps = folder.files("", ".toml").unwrap_or_default();
    for source in maps.iter().filter_map(read).filter(pack::is_map) {
        let checks = pack::checks(&source, &[]).unwrap_or_default();
        ids.extend(checks.into_iter().map(|check| check.id));
    }
    for inner in folder.folders().unwrap_or_default() {
        ids_below(&inner, ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_suite_is_read_and_speaks_of_checks_that_there_are() {
        let page = include_str!("../../docs/checks.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let ids: Vec<String> = overrides(&Source::new("docs", example))
            .unwrap()
            .into_iter()
            .map(|tuned| tuned.id.into_inner())
            .collect();
        assert_eq!(ids.len(), 2);
        let known = bundled_ids();
        assert!(
            ids.iter()
                .filter(|id| id.starts_with("structure."))
                .all(|id| known.contains(id)),
            "{ids:?}"
        );
    }
}
