//! Fixtures: databases in a state in which a check must find exactly these rows, or none.
//!
//! ```text
//! checks/hotel/orphan_holds.sql
//! checks/hotel/fixtures/schema.sql            else the bundled system that is called as the folder is
//! checks/hotel/fixtures/orphan_holds.sql      -- finds: [["3"], ["7"]]
//! checks/hotel/fixtures/orphan_holds.ok.sql   -- finds: []
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::{Check, CheckResult, Decision, Key};
use crate::bundled::{Folder, Shelf};
use crate::source::{FileError, Source};

/// A state of a database, and what a check must find in it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The statements that make it.
    pub source: Source,
    /// The keys that the check must find, sorted.
    pub finds: Vec<Key>,
    /// The keys of rows that must be pending, sorted.
    pub pending: Vec<Key>,
    /// Override the check's parameters.
    pub params: BTreeMap<String, String>,
}

const FOLDER: &str = "fixtures";

/// The folder of a check's file, and the file's name without its ending.
pub fn folder_of(check: &Check) -> (Folder, String) {
    let name = check.source.name.strip_suffix(" (bundled)");
    let path = Path::new(name.unwrap_or(&check.source.name));
    let stem = path
        .file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default();
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder = match name {
        Some(_) => {
            let path = parent.strip_prefix(Shelf::Checks.name()).unwrap_or(parent);
            Folder::Bundled(Shelf::Checks, path.to_string_lossy().into_owned())
        }
        None if parent.as_os_str().is_empty() => Folder::Disk(".".into()),
        None => Folder::Disk(parent.to_path_buf()),
    };
    (folder, stem)
}

/// The schema that a folder's fixtures begin with, where it has one of its own.
///
/// # Errors
/// [`FileError::Read`] when it is there and can't be read.
pub fn schema_of(folder: &Folder) -> Result<Option<Source>, FileError> {
    folder.read(&format!("{FOLDER}/schema.sql"))
}

/// The fixtures of a check: `fixtures/<name>.sql` and `fixtures/<name>.<word>.sql`.
///
/// # Errors
/// [`FileError`] when one can't be read, or doesn't say what is to be found.
pub fn fixtures_of(check: &Check) -> Result<Vec<Fixture>, FileError> {
    let (folder, stem) = folder_of(check);
    let mut found = Vec::new();
    for name in folder.sql_files(FOLDER)? {
        let own = name.trim_start_matches(FOLDER).trim_start_matches('/');
        let rest = own.strip_prefix(&stem).unwrap_or_default();
        if rest != ".sql" && !(rest.starts_with('.') && rest.matches('.').count() == 2) {
            continue;
        }
        if let Some(source) = folder.read(&name)? {
            found.push(read(source)?);
        }
    }
    Ok(found)
}

fn read(source: Source) -> Result<Fixture, FileError> {
    let mut finds = None;
    let mut pending = Vec::new();
    let mut params = BTreeMap::new();
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        let span = at..at + line.trim_end().len();
        at += line.len();
        let Some(comment) = line.trim().strip_prefix("--") else {
            break;
        };
        let wrong = |error: serde_json::Error, expected: &str| {
            source
                .error(span.clone(), error.to_string())
                .label(format!("expected {expected}"))
        };
        let keys = |text: &str| {
            let mut keys: Vec<Key> = serde_json::from_str(text)
                .map_err(|error| wrong(error, "keys like [[\"1\", \"2030-06-01\"], [\"2\", null]]"))?;
            keys.sort();
            Ok::<_, FileError>(keys)
        };
        let comment = comment.trim();
        if let Some(text) = comment.strip_prefix("finds:") {
            finds = Some(keys(text)?);
        } else if let Some(text) = comment.strip_prefix("pending:") {
            pending = keys(text)?;
        } else if let Some(text) = comment.strip_prefix("params:") {
            params =
                serde_json::from_str(text).map_err(|error| wrong(error, "parameters like {\"hold_ttl\": \"0s\"}"))?;
        }
    }
    let Some(finds) = finds else {
        let error = source.error(0..0, "this fixture doesn't say what the check must find");
        return Err(error
            .help("begin it with `-- finds: [[\"1\"], [\"2\"]]`, the keys as text, or `-- finds: []`")
            .into());
    };
    Ok(Fixture {
        source,
        finds,
        pending,
        params,
    })
}

impl Fixture {
    /// The check, so that a run of it can be compared.
    pub fn apply(&self, check: &Check) -> Check {
        let mut check = check.clone();
        check.params.extend(self.params.clone());
        complete(check)
    }

    /// What is wrong with what was found; none when it is right.
    pub fn judge(&self, result: &CheckResult) -> Option<String> {
        match result.decision {
            Decision::CouldNotDecide => return Some(reason(result)),
            Decision::Skipped => return None,
            Decision::Held | Decision::Violated | Decision::Pending => {}
        }
        let sorted = |keys: &[Key]| {
            let mut keys = keys.to_vec();
            keys.sort();
            keys
        };
        let (finds, pending) = (sorted(&result.keys), sorted(&result.keys_pending));
        if finds != self.finds {
            return Some(format!(
                "it must find {}, and finds {}",
                shown(&self.finds),
                shown(&finds)
            ));
        }
        (pending != self.pending).then(|| {
            let (expected, found) = (shown(&self.pending), shown(&pending));
            format!("{expected} must be pending, and {found} is")
        })
    }
}

/// A check that counts all rows, and at once.
pub fn complete(mut check: Check) -> Check {
    check.count = super::Count::Exact;
    check.confirm = None;
    check
}

/// Why it is no result.
pub fn reason(result: &CheckResult) -> String {
    format!("could not decide: {}", result.reason.as_deref().unwrap_or_default())
}

fn shown(keys: &[Key]) -> String {
    serde_json::json!(keys).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_must_find_stands_in_comments_at_its_top() {
        let text = "-- finds: [[\"2\", null], [\"1\", \"x\"]]\n-- about it\n-- pending: [[\"3\",\"y\"]]\n-- params: {\"a\": \"1\"}\nselect 1;";
        let fixture = read(Source::new("f.sql", text)).unwrap();
        assert_eq!(fixture.finds[0], [Some("1".to_string()), Some("x".to_string())]);
        assert_eq!((fixture.pending.len(), fixture.params["a"].as_str()), (1, "1"));
        for (text, shown) in [("select 1", "doesn't say"), ("-- a\n-- finds: [1]\n", "f.sql:2:")] {
            let error = read(Source::new("f.sql", text)).unwrap_err().to_string();
            assert!(error.contains(shown), "{error}");
        }
    }

    #[test]
    fn bundled_checks_have_fixtures() {
        let checks = super::super::find("hotel", Path::new("/nonexistent")).unwrap();
        for check in &checks {
            let fixtures = fixtures_of(check).unwrap();
            assert!(fixtures.iter().any(|f| !f.finds.is_empty()), "{}", check.id);
        }
    }
}
