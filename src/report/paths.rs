//! Names of files as those who read a report know them.

use std::path::{Component, Path, PathBuf};

/// What paths in a report are relative to.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Where the run was started: the user's paths begin there.
    pub here: PathBuf,
    /// The root of the repository, where it is known.
    pub root: Option<PathBuf>,
}

impl Paths {
    /// The path from the root, where it lies below; else as the user wrote it.
    pub(super) fn shown(&self, file: &str) -> String {
        let root = self.root.as_deref().unwrap_or(&self.here);
        let whole = plain(&self.here.join(file));
        match whole.strip_prefix(plain(root)) {
            Ok(path) if path != Path::new("") => path.display().to_string(),
            _ => file.to_string(),
        }
    }

    /// The same as the URI reference that SARIF wants.
    pub(super) fn uri(&self, file: &str) -> String {
        let shown = self.shown(file);
        let mut uri = String::with_capacity(shown.len());
        if shown.starts_with('/') {
            uri.push_str("file://");
        }
        for byte in shown.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    uri.push(char::from(byte))
                }
                _ => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        uri
    }
}

/// Without `.` and `..`, by the letter: the files need not exist.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_root_of_the_repository() {
        let paths = Paths {
            here: "/repo/db".into(),
            root: Some("/repo".into()),
        };
        assert_eq!(paths.shown("checks/a.sql"), "db/checks/a.sql");
        assert_eq!(paths.shown("../x/./a.sql"), "x/a.sql");
        assert_eq!(paths.shown("/repo/b.sql"), "b.sql");
        assert_eq!(paths.shown("/etc/b.sql"), "/etc/b.sql");
        assert_eq!(paths.uri("a b#%ü.sql"), "db/a%20b%23%25%C3%BC.sql");
        assert_eq!(paths.uri("/etc/b.sql"), "file:///etc/b.sql");
        let paths = Paths {
            here: "/repo/db".into(),
            root: None,
        };
        assert_eq!(paths.shown("./checks/a.sql"), "checks/a.sql");
    }
}
