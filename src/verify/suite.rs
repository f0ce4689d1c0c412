//! The `suite.toml`s of folders, and the checks of a folder with what they say.

use std::path::Path;

use super::Check;
use crate::bundled::Folder;
use crate::source::{FileError, Source};

/// Defaults and overrides for the checks of a folder and of those below it.
pub(super) const FILE: &str = "suite.toml";

/// The checks of a folder without those of folders in it, with the defaults of all folders around it, and some more.
pub(super) fn checks_of(folder: &Folder, more: &[Source]) -> Result<Vec<Check>, FileError> {
    let mut suites = around(folder)?;
    suites.extend(folder.read(FILE)?);
    suites.extend_from_slice(more);
    directly_in(folder, &suites)
}

/// The checks of a folder without those of folders in it.
pub(super) fn directly_in(folder: &Folder, suites: &[Source]) -> Result<Vec<Check>, FileError> {
    let mut checks = Vec::new();
    for name in folder.sql_files("")? {
        if let Some(source) = folder.read(&name)? {
            checks.push(Check::parse_with(source, suites)?);
        }
    }
    Ok(checks)
}

/// The `suite.toml`s of the folders around this one, the outermost first.
pub(super) fn around(folder: &Folder) -> Result<Vec<Source>, FileError> {
    match folder {
        Folder::Disk(path) => path.parent().map_or(Ok(Vec::new()), above),
        Folder::Bundled(shelf, path) => {
            let mut suites = Vec::from_iter(shelf.file(FILE));
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            suites.extend(parents.filter_map(|parent| shelf.file(&format!("{parent}/{FILE}"))));
            Ok(suites)
        }
    }
}

/// The `suite.toml`s of a folder on disk and of those above it, the outermost first, up to the root of the repository: a check is the
/// same whether it is named itself or by a folder.
pub(super) fn above(folder: &Path) -> Result<Vec<Source>, FileError> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let mut suites = Vec::new();
    for folder in whole.ancestors() {
        suites.extend(Folder::Disk(folder.to_path_buf()).read(FILE)?);
        if folder.join(".git").exists() {
            break;
        }
    }
    suites.reverse();
    Ok(suites)
}
