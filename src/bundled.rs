//! The files that travel inside the binary, and how a name on the command line finds one.
//!
//! A path always wins over a bundled name.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use crate::source::{FileError, Source, nearest};

static SQL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/sql");
static CHECKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/checks");
static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// The kinds of bundled files, each a top-level folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// `sql/<system>/...`
    Sql,
    /// `checks/<folder>/<check>.sql`, `checks/packs/<pack>/<check>.sql`
    Checks,
    /// `scenarios/<system>/<scenario>.toml`
    Scenarios,
}

impl Shelf {
    fn dir(self) -> &'static Dir<'static> {
        match self {
            Shelf::Sql => &SQL,
            Shelf::Checks => &CHECKS,
            Shelf::Scenarios => &SCENARIOS,
        }
    }

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Shelf::Sql => "sql",
            Shelf::Checks => "checks",
            Shelf::Scenarios => "scenarios",
        }
    }

    /// A bundled file by its path below the shelf.
    pub fn file(self, path: &str) -> Option<Source> {
        let text = self.dir().get_file(path)?.contents_utf8()?;
        Some(Source::new(format!("{}/{path} (bundled)", self.name()), text))
    }

    /// The paths of all bundled files directly in a folder, sorted.
    pub fn files_in(self, folder: &str) -> Vec<String> {
        let dir = match folder {
            "" => Some(self.dir()),
            _ => self.dir().get_dir(folder),
        };
        let mut paths: Vec<String> = dir
            .into_iter()
            .flat_map(Dir::files)
            .map(|f| f.path().to_string_lossy().into_owned())
            .collect();
        paths.sort();
        paths
    }

    /// The names of the folders on the shelf; of those with SQL, the bundled systems.
    pub fn folders(self) -> Vec<String> {
        let mut names = self.folders_in("");
        names.retain(|name| self != Shelf::Sql || self.dir().get_file(format!("{name}/schema.sql")).is_some());
        names
    }

    /// The paths of the folders directly in a folder, sorted.
    fn folders_in(self, folder: &str) -> Vec<String> {
        let dir = match folder {
            "" => Some(self.dir()),
            _ => self.dir().get_dir(folder),
        };
        let mut paths: Vec<String> = dir
            .into_iter()
            .flat_map(Dir::entries)
            .filter_map(DirEntry::as_dir)
            .map(|d| d.path().to_string_lossy().into_owned())
            .collect();
        paths.sort();
        paths
    }
}

/// The folders of bundled checks by their paths, outer ones first: `hotel`, `packs/booking`.
pub fn check_folders() -> Vec<String> {
    fn walk(folder: &str, found: &mut Vec<String>) {
        if Shelf::Checks.files_in(folder).iter().any(|f| f.ends_with(".sql")) {
            found.push(folder.to_string());
        }
        for inner in Shelf::Checks.folders_in(folder) {
            if !is_apart(&inner) {
                walk(&inner, found);
            }
        }
    }
    let mut found = Vec::new();
    walk("", &mut found);
    found
}

/// Whether a folder among checks has no checks in it: their fixtures, and what is hidden.
fn is_apart(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "fixtures" || name.starts_with('.')
}

/// A folder of files, on disk or bundled: a system's SQL, or checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// On disk.
    Disk(PathBuf),
    /// In the binary, by its path below the shelf.
    Bundled(Shelf, String),
}

impl Folder {
    /// Reads a file of the folder; none when it isn't there.
    ///
    /// # Errors
    /// [`FileError::Read`] when it is there but can't be read.
    pub fn read(&self, name: &str) -> Result<Option<Source>, FileError> {
        match self {
            Folder::Disk(path) => {
                let path = path.join(name);
                path.is_file().then(|| Source::read(&path)).transpose()
            }
            Folder::Bundled(shelf, path) => Ok(shelf.file(&format!("{path}/{name}"))),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Folder::Disk(path) => path.display().to_string(),
            Folder::Bundled(shelf, path) => format!("{}/{path} (bundled)", shelf.name()),
        }
    }

    /// The `.sql` files directly in the folder or in a folder of it, as names for [`Folder::read`], sorted.
    ///
    /// # Errors
    /// [`FileError::Read`] when the folder can't be listed.
    pub fn sql_files(&self, sub: &str) -> Result<Vec<String>, FileError> {
        self.files(sub, ".sql")
    }

    /// The files with this ending directly in the folder or in a folder of it, as names for [`Folder::read`], sorted.
    ///
    /// # Errors
    /// [`FileError::Read`] when the folder can't be listed.
    pub fn files(&self, sub: &str, ending: &str) -> Result<Vec<String>, FileError> {
        let join = |name: &str| match sub {
            "" => name.to_string(),
            _ => format!("{sub}/{name}"),
        };
        let mut names: Vec<String> = match self {
            Folder::Disk(path) => {
                let path = path.join(sub);
                if !sub.is_empty() && !path.is_dir() {
                    return Ok(Vec::new());
                }
                entries(&path)?.into_iter().map(|(name, _)| name).collect()
            }
            Folder::Bundled(shelf, path) => {
                let folder = if sub.is_empty() {
                    path.clone()
                } else {
                    format!("{path}/{sub}")
                };
                let bare = |p: String| p.rsplit('/').next().map(String::from);
                shelf.files_in(&folder).into_iter().filter_map(bare).collect()
            }
        };
        names.retain(|n| n.ends_with(ending));
        names.sort();
        Ok(names.iter().map(|n| join(n)).collect())
    }

    /// The folders in it that may hold checks, sorted: not `fixtures`, none that is hidden, and no symbolic links, which may lead
    /// back here.
    ///
    /// # Errors
    /// [`FileError::Read`] when the folder can't be listed.
    pub fn folders(&self) -> Result<Vec<Folder>, FileError> {
        match self {
            Folder::Disk(path) => {
                let mut names = entries(path)?;
                names.retain(|(name, kind)| kind.is_dir() && !is_apart(name));
                names.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(names
                    .into_iter()
                    .map(|(name, _)| Folder::Disk(path.join(name)))
                    .collect())
            }
            Folder::Bundled(shelf, path) => {
                let inner = shelf.folders_in(path).into_iter().filter(|p| !is_apart(p));
                Ok(inner.map(|p| Folder::Bundled(*shelf, p)).collect())
            }
        }
    }
}

fn entries(path: &Path) -> Result<Vec<(String, FileType)>, FileError> {
    let unreadable = |error: std::io::Error| FileError::Read {
        path: path.display().to_string(),
        why: error.to_string(),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), kind));
    }
    Ok(found)
}

/// Finds a scenario by path or bundled name (`last-room`, `hotel/last-room`).
///
/// # Errors
/// [`FileError::Read`] when there is neither, with the nearest bundled name.
pub fn scenario(name: &str) -> Result<Source, FileError> {
    let path = Path::new(name);
    if path.is_file() {
        return Source::read(path);
    }
    let names = scenario_names();
    let wanted = name.strip_prefix("scenarios/").unwrap_or(name);
    let wanted = wanted.strip_suffix(".toml").unwrap_or(wanted);
    let found = names
        .iter()
        .find(|full| *full == wanted || full.rsplit('/').next() == Some(wanted));
    if let Some(source) = found.and_then(|full| Shelf::Scenarios.file(&format!("{full}.toml"))) {
        return Ok(source);
    }
    let short = names.iter().filter_map(|n| n.rsplit('/').next());
    let hint = nearest(wanted, short).unwrap_or_else(|| "`db-race list` shows the bundled ones".into());
    Err(FileError::Read {
        path: name.to_string(),
        why: format!("there is no such file, and no bundled scenario of that name; {hint}"),
    })
}

/// The bundled scenarios, as `<system>/<name>`, sorted.
pub fn scenario_names() -> Vec<String> {
    let mut names = Vec::new();
    for system in Shelf::Scenarios.folders() {
        for path in Shelf::Scenarios.files_in(&system) {
            names.extend(path.strip_suffix(".toml").map(String::from));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_scenarios_are_found_by_short_and_long_name() {
        for name in ["last-room", "hotel/last-room", "scenarios/hotel/last-room.toml"] {
            assert!(scenario(name).is_ok(), "{name}");
        }
        let error = scenario("last-rom").unwrap_err().to_string();
        assert!(error.contains("did you mean `last-room`?"), "{error}");
    }

    #[test]
    fn a_path_wins_over_a_bundled_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "title = 'mine'").unwrap();
        let source = scenario(file.path().to_str().unwrap()).unwrap();
        assert_eq!(&*source.text, "title = 'mine'");
    }
}
