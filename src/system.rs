//! A system: a schema with its procedures, seed and bugs, bundled or in a folder of the user's.
//!
//! ```text
//! sql/hotel/schema.sql  procedures.sql  seed.sql  bugs/<bug>.sql
//! ```

use std::path::Path;

use serde::Deserialize;

use crate::bundled::{Folder, Shelf};
use crate::source::{FileError, Source, fenced, nearest};

/// The files of a system, in the order in which they are run.
#[derive(Clone, Debug)]
pub struct System {
    /// `hotel`, or the folder's path.
    pub name: String,
    /// schema.sql, procedures.sql, seed.sql; the first is required.
    pub files: Vec<Source>,
    folder: Folder,
}

/// A broken twin of a procedure.
#[derive(Clone, Debug)]
pub struct Bug {
    /// The file's name without `.sql`.
    pub name: String,
    /// What stands in the file's header.
    pub header: BugHeader,
    /// The file: SQL that replaces the procedure.
    pub source: Source,
}

/// The fenced block at the top of a bug's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BugHeader {
    /// The mistake in a line.
    pub title: String,
    /// The procedure that is replaced.
    pub replaces: String,
    /// The scenario that shows it.
    pub scenario: String,
    /// The rule (its measure) or the check (its id) that it breaks.
    pub breaks: String,
    /// Whether it needs a race.
    pub kind: BugKind,
}

/// Whether a bug needs a race to show.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BugKind {
    /// It shows only in a race.
    Concurrency,
    /// It shows with one session too.
    Plain,
}

impl System {
    /// Finds a system: a folder, relative to `base`, or a bundled name.
    ///
    /// # Errors
    /// [`FileError::Read`] when there is neither, or it has no schema.sql.
    pub fn find(name: &str, base: &Path) -> Result<System, FileError> {
        let path = base.join(name);
        let folder = if path.is_dir() {
            Folder::Disk(path)
        } else {
            Folder::Bundled(Shelf::Sql, name.to_string())
        };
        let mut files = Vec::new();
        for file in ["schema.sql", "procedures.sql", "seed.sql"] {
            match folder.read(file)? {
                Some(source) => files.push(source),
                None if file == "schema.sql" => {
                    let bundled = Shelf::Sql.folders();
                    let hint = nearest(name, bundled.iter().map(String::as_str))
                        .unwrap_or_else(|| format!("bundled systems: {}", crate::source::quoted(&bundled)));
                    return Err(FileError::Read {
                        path: format!("{name}/schema.sql"),
                        why: format!("there is no such system; {hint}"),
                    });
                }
                None => {}
            }
        }
        Ok(System {
            name: name.to_string(),
            files,
            folder,
        })
    }

    /// The bugs of the system, sorted by name.
    ///
    /// # Errors
    /// [`FileError`] when a file or its header is wrong.
    pub fn bugs(&self) -> Result<Vec<Bug>, FileError> {
        let mut bugs = Vec::new();
        for name in self.folder.sql_files("bugs")? {
            if let Some(source) = self.folder.read(&name)? {
                let header = source.toml(&fenced(&source, "bug")?)?;
                let name = name.trim_start_matches("bugs/").trim_end_matches(".sql").to_string();
                bugs.push(Bug { name, header, source });
            }
        }
        Ok(bugs)
    }

    /// One bug: of this system by name, or any `.sql` file by path.
    ///
    /// # Errors
    /// [`FileError::Read`] with the nearest name when there is no such bug.
    pub fn bug(&self, name: &str) -> Result<Bug, FileError> {
        let path = Path::new(name);
        if path.is_file() {
            let source = Source::read(path)?;
            let header = source.toml(&fenced(&source, "bug")?)?;
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            return Ok(Bug {
                name: stem.to_string_lossy().into_owned(),
                header,
                source,
            });
        }
        let bugs = self.bugs()?;
        let names: Vec<String> = bugs.iter().map(|b| b.name.clone()).collect();
        bugs.into_iter()
            .find(|b| b.name == name)
            .ok_or_else(|| FileError::Read {
                path: name.to_string(),
                why: format!(
                    "{} has no such bug; {}",
                    self.name,
                    nearest(name, names.iter().map(String::as_str))
                        .unwrap_or_else(|| format!("it has {}", crate::source::quoted(&names)))
                ),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_bug_names_a_bundled_scenario_of_its_system() {
        for name in Shelf::Sql.folders() {
            let system = System::find(&name, Path::new("/nonexistent")).unwrap();
            for bug in system.bugs().unwrap() {
                let file = format!("{name}/{}.toml", bug.header.scenario);
                assert!(Shelf::Scenarios.file(&file).is_some(), "{}: {file}", bug.name);
            }
        }
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        let error = System::find("hotl", Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("did you mean `hotel`?"), "{error}");
        let hotel = System::find("hotel", Path::new("/")).unwrap();
        let error = hotel.bug("unlocked-raed").unwrap_err().to_string();
        assert!(error.contains("did you mean `unlocked-read`?"), "{error}");
    }
}
