//! Finding check files by what is said on the command line.

use std::path::Path;

use super::Check;
use crate::bundled::{Folder, Shelf};
use crate::source::{FileError, Source, nearest};

/// Finds checks: a file or a folder (relative to `base`), or a bundled name (`hotel`, `hotel/orphan_holds`,
/// with or without `checks/` before and `.sql` behind). A path wins.
///
/// # Errors
/// [`FileError`] when there are none of that name, or a file is wrong.
pub fn find(name: &str, base: &Path) -> Result<Vec<Check>, FileError> {
    let path = base.join(name);
    if path.is_file() {
        return Ok(vec![Check::parse(Source::read(&path)?)?]);
    }
    if path.is_dir() {
        return in_folder(&Folder::Disk(path));
    }
    let wanted = name.strip_prefix("checks/").unwrap_or(name).trim_end_matches('/');
    let folders = Shelf::Checks.folders();
    if folders.iter().any(|f| f == wanted) {
        return in_folder(&Folder::Bundled(Shelf::Checks, wanted.to_string()));
    }
    let file = format!("{}.sql", wanted.strip_suffix(".sql").unwrap_or(wanted));
    if let Some(source) = Shelf::Checks.file(&file) {
        return Ok(vec![Check::parse(source)?]);
    }
    let mut names = folders.clone();
    for folder in &folders {
        names.extend(
            Shelf::Checks
                .files_in(folder)
                .iter()
                .map(|f| f.trim_end_matches(".sql").to_string()),
        );
    }
    let hint = nearest(wanted, names.iter().map(String::as_str))
        .unwrap_or_else(|| "`db-race list` shows the bundled ones".into());
    Err(FileError::Read {
        path: path.display().to_string(),
        why: format!("there is no such file or folder, and no bundled check of that name; {hint}"),
    })
}

fn in_folder(folder: &Folder) -> Result<Vec<Check>, FileError> {
    let mut checks = Vec::new();
    for name in folder.sql_files("")? {
        if let Some(source) = folder.read(&name)? {
            checks.push(Check::parse(source)?);
        }
    }
    if checks.is_empty() {
        let path = match folder {
            Folder::Disk(path) => path.display().to_string(),
            Folder::Bundled(_, path) => path.clone(),
        };
        return Err(FileError::Read {
            path,
            why: "there are no `.sql` files in it".into(),
        });
    }
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
        for folder in Shelf::Checks.folders() {
            for check in find(&folder, here).unwrap() {
                let file = format!("checks/{}.sql (bundled)", check.id.replace('.', "/"));
                assert_eq!(*check.source.name, *file);
                assert!(!check.key.is_empty(), "{} has no key", check.id);
            }
        }
    }

    #[test]
    fn the_documented_check_is_right() {
        let page = include_str!("../../../docs/checks.md");
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
