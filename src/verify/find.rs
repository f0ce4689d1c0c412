//! Finding check files by what is said on the command line.

use std::path::Path;

use super::suite::{self, FILE};
use super::{Check, pack, tuned};
use crate::bundled::{self, Folder, Shelf};
use crate::source::{FileError, Source, nearest};

/// Finds checks: a check file, a map file of a pack, or a folder with all below it (relative to `base`), or a bundled name. A path wins.
///
/// A bundled name is a folder's path or its last part, or a check's id or path: `hotel`, `packs/booking`, `booking`, `booking/overlap`,
/// `booking.overlap`, with or without `checks/` before and `.sql` behind. `packs` is all packs.
///
/// The `suite.toml`s of the folders around files, and of `base` and those around it for bundled names, override what checks say of themselves.
///
/// # Errors
/// [`FileError`] when there are none of that name, or a file is wrong.
pub fn find(name: &str, base: &Path) -> Result<Vec<Check>, FileError> {
    let path = base.join(name);
    if path.is_file() {
        let source = Source::read(&path)?;
        let suites = suite::above(path.parent().unwrap_or(Path::new("")))?;
        let mut checks = match path.extension().is_some_and(|e| e == "toml") {
            true => pack::checks(&source, &suites)?,
            false => vec![Check::parse_with(source, &suites)?],
        };
        tuned::apply(&mut checks, &suites)?;
        tuned::all_known(&suites, &checks)?;
        return Ok(checks);
    }
    if path.is_dir() {
        let above = match path.parent() {
            Some(parent) => suite::above(parent)?,
            None => Vec::new(),
        };
        let checks = in_folder(&Folder::Disk(path), &above)?;
        tuned::all_known(&above, &checks)?;
        return Ok(checks);
    }
    let mut checks = bundled_checks(name, &path)?;
    let suites = tuned::for_bundled(base)?;
    tuned::apply(&mut checks, &suites)?;
    tuned::all_known(&suites, &checks)?;
    Ok(checks)
}

fn bundled_checks(name: &str, path: &Path) -> Result<Vec<Check>, FileError> {
    let wanted = name.strip_prefix("checks/").unwrap_or(name).trim_end_matches('/');
    let wanted = wanted.strip_suffix(".sql").unwrap_or(wanted);
    let all = bundled::check_folders();
    // `packs` isn't a folder of checks, but one of folders
    let below = format!("{wanted}/");
    let folder = by_name(&all, wanted).or_else(|| all.iter().any(|f| f.starts_with(&below)).then_some(wanted));
    if let Some(folder) = folder {
        let folder = Folder::Bundled(Shelf::Checks, folder.to_string());
        return in_folder(&folder, &suite::around(&folder)?);
    }
    if let Some((folder, file)) = wanted.rsplit_once(['/', '.'])
        && let Some(folder) = by_name(&all, folder)
    {
        let folder = Folder::Bundled(Shelf::Checks, folder.to_string());
        if let Some(source) = folder.read(&format!("{file}.sql"))? {
            let mut suites = suite::around(&folder)?;
            suites.extend(folder.read(FILE)?);
            return Ok(vec![Check::parse_with(source, &suites)?]);
        }
    }
    let mut names = Vec::new();
    for folder in &all {
        let short = folder.rsplit('/').next().unwrap_or(folder);
        let files = Shelf::Checks.files_in(folder);
        let files = files.iter().filter_map(|f| f.rsplit('/').next()?.strip_suffix(".sql"));
        names.extend(files.map(|file| format!("{short}/{file}")));
        names.push(short.to_string());
    }
    let hint = nearest(&wanted.replace('.', "/"), names.iter().map(String::as_str))
        .unwrap_or_else(|| "`db-race list` shows the bundled ones".into());
    Err(FileError::Read {
        path: path.display().to_string(),
        why: format!("there is no such file or folder, and no bundled check of that name; {hint}"),
    })
}

/// A bundled folder by its path, or by its last part where only one ends in it.
fn by_name<'a>(folders: &'a [String], wanted: &str) -> Option<&'a str> {
    let mut ending = folders.iter().filter(|f| f.rsplit('/').next() == Some(wanted));
    let exact = folders.iter().find(|f| *f == wanted);
    match (exact, ending.next(), ending.next()) {
        (Some(folder), _, _) | (None, Some(folder), None) => Some(folder),
        _ => None,
    }
}

/// All checks of a folder and of those in it, and of the map files among them.
fn in_folder(folder: &Folder, above: &[Source]) -> Result<Vec<Check>, FileError> {
    let checks = walk(folder, above)?;
    if checks.is_empty() {
        return Err(FileError::Read {
            path: folder.name(),
            why: "there are no `.sql` files in it".into(),
        });
    }
    Ok(checks)
}

fn walk(folder: &Folder, above: &[Source]) -> Result<Vec<Check>, FileError> {
    let own = folder.read(FILE)?;
    let mut suites = above.to_vec();
    suites.extend(own.clone());
    let mut checks = suite::directly_in(folder, &suites)?;
    for name in folder.files("", ".toml")? {
        // other TOML files, scenarios for example, may stand beside checks
        if let Some(source) = folder.read(&name)?.filter(pack::is_map) {
            checks.extend(pack::checks(&source, &suites)?);
        }
    }
    tuned::apply(&mut checks, &suites)?;
    for inner in folder.folders()? {
        checks.extend(walk(&inner, &suites)?);
    }
    tuned::all_known(own.as_slice(), &checks)?;
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_checks_are_found_in_every_form_and_named_after_their_file() {
        let here = Path::new("/nonexistent");
        for name in ["hotel", "checks/hotel", "checks/hotel/"] {
            assert!(find(name, here).unwrap().len() > 5, "{name}");
        }
        for name in ["hotel/orphan_holds", "checks/hotel/orphan_holds.sql"] {
            assert_eq!(find(name, here).unwrap()[0].id, "hotel.orphan_holds");
        }
        for folder in bundled::check_folders() {
            let short = folder.rsplit('/').next().unwrap();
            for check in find(&folder, here).unwrap() {
                let file = check.id.strip_prefix(&format!("{short}.")).unwrap();
                assert_eq!(*check.source.name, *format!("checks/{folder}/{file}.sql (bundled)"));
                assert!(!check.key.is_empty(), "{} has no key", check.id);
                for name in [
                    check.id.clone(),
                    format!("{short}/{file}"),
                    format!("{folder}/{file}.sql"),
                ] {
                    assert_eq!(find(&name, here).unwrap()[0].id, check.id);
                }
            }
        }
    }

    #[test]
    fn the_documented_check_is_right() {
        let page = include_str!("../../docs/checks.md");
        let example = page.split("```").nth(1).unwrap().strip_prefix("sql\n").unwrap();
        let check = Check::parse(Source::new("docs", example)).unwrap();
        assert_eq!((check.id.as_str(), check.key.len()), ("hotel.inventory_violations", 2));
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        let error = find("hotel/orphan_hold", Path::new("")).unwrap_err().to_string();
        assert!(error.contains("did you mean `hotel/orphan_holds`?"), "{error}");
    }
}
