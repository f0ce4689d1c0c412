//! Where `initdb` and `postgres` are.
//!
//! In this order: the directory that was asked for (and then nowhere else), what `pg_config
//! --bindir` says, PATH, and the places where packages put them, newest version first. A place that
//! has both is asked for its version; one that is too old, or does not run, is passed over.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ServerError;

/// The oldest major version that this crate works with.
const OLDEST_MAJOR: u32 = 13;

/// Where packages put the server. At most one `*` in a path; what it stands for is where the
/// version is found.
const USUAL_PLACES: [&str; 11] = [
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // Red Hat, packages of postgresql.org
    "/usr/bin",                                           // Fedora, Red Hat, Arch
    "/usr/libexec/postgresql*",                           // Alpine
    "/usr/lib/postgresql*/bin",                           // SUSE
    "/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew, Apple silicon
    "/usr/local/opt/postgresql@*/bin",                    // Homebrew, Intel
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew, Linux
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
    "/usr/local/pgsql/bin",                               // built from source
    "/usr/local/bin",                                     // FreeBSD
];

/// A directory with usable server binaries.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    /// Such as `17.2`.
    pub(super) version: String,
    /// All that `postgres --version` says, with the name of the build.
    pub(super) full_version: String,
}

pub(super) fn find(asked: Option<&Path>) -> Result<Binaries, ServerError> {
    if let Some(dir) = asked {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        return usable(&dir, version_of).map_err(|reason| ServerError::BadBinaries { dir, reason });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Each is looked at only when those before it were of no use.
    let candidates = pg_config()
        .into_iter()
        .chain(in_path(&path))
        .chain(in_usual_places(Path::new("/")));
    first_usable(candidates, version_of)
}

fn first_usable(
    candidates: impl IntoIterator<Item = PathBuf>,
    version_of: impl Fn(&Path) -> Result<String, String>,
) -> Result<Binaries, ServerError> {
    let mut passed_over: Vec<(PathBuf, String)> = Vec::new();
    for dir in candidates {
        // Most places simply don't have a server, and a place may come up more than once.
        if !has_program(&dir, "postgres") || passed_over.iter().any(|(other, _)| *other == dir) {
            continue;
        }
        match usable(&dir, &version_of) {
            Ok(binaries) => return Ok(binaries),
            Err(reason) => passed_over.push((dir, reason)),
        }
    }
    let looked_in = ["the directory that `pg_config --bindir` names", "PATH"]
        .into_iter()
        .chain(USUAL_PLACES)
        .map(str::to_owned)
        .collect();
    Err(ServerError::NoBinaries { looked_in, passed_over })
}

/// The binaries in this directory, or why they cannot be used.
fn usable(dir: &Path, version_of: impl Fn(&Path) -> Result<String, String>) -> Result<Binaries, String> {
    for program in ["postgres", "initdb"] {
        if !has_program(dir, program) {
            return Err(format!("there is no `{program}` that can be run"));
        }
    }
    let full_version = version_of(&dir.join("postgres"))?;
    let version = version_number(&full_version)
        .ok_or_else(|| format!("`postgres --version` says {full_version:?}, which is no version"))?;
    let major = leading_number(version).unwrap_or(0);
    if major < OLDEST_MAJOR {
        return Err(format!(
            "version {version} is too old; {OLDEST_MAJOR} is the oldest that works"
        ));
    }
    Ok(Binaries {
        dir: dir.to_owned(),
        version: version.to_owned(),
        full_version: full_version.clone(),
    })
}

fn version_of(postgres: &Path) -> Result<String, String> {
    let output = Command::new(postgres)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`postgres --version` does not run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`postgres --version` failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `17.2` of `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`; also `18beta1` and `19devel`.
fn version_number(full_version: &str) -> Option<&str> {
    full_version
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// What `pg_config` says, which may come with the client's headers only, without a server.
fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    let dir = dir.trim();
    (output.status.success() && !dir.is_empty()).then(|| PathBuf::from(dir))
}

/// The directories of PATH that have a `postgres`, seen through symlinks: a package's `initdb` may
/// be linked elsewhere.
fn in_path(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute() && has_program(dir, "postgres"))
        .map(|dir| {
            fs::canonicalize(dir.join("postgres"))
                .ok()
                .and_then(|real| real.parent().map(Path::to_owned))
                .filter(|real| has_program(real, "postgres") && has_program(real, "initdb"))
                .unwrap_or(dir)
        })
        .collect()
}

fn in_usual_places(root: &Path) -> Vec<PathBuf> {
    let mut places: Vec<(u32, PathBuf)> = USUAL_PLACES.iter().flat_map(|place| expand(root, place)).collect();
    // Stable: of the same version, the order of the list.
    places.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    places.into_iter().map(|(_, dir)| dir).collect()
}

/// The directories that a path with at most one `*` stands for, each with the number found in its
/// place (0 if none).
fn expand(root: &Path, place: &str) -> Vec<(u32, PathBuf)> {
    let place = place.trim_start_matches('/');
    let Some((before, after)) = place.split_once('*') else {
        return vec![(0, root.join(place))];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(parent)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) {
            let dir = entry.path();
            let dir = match after.trim_start_matches('/') {
                "" => dir,
                below => dir.join(below),
            };
            found.push((leading_number(rest).unwrap_or(0), dir));
        }
    }
    found
}

fn has_program(dir: &Path, program: &str) -> bool {
    fs::metadata(dir.join(program)).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A tree of directories with programs that cannot run, but look as if they could.
    fn tree(places: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for place in places {
            for program in ["postgres", "initdb"] {
                add_program(&root.path().join(place), program);
            }
        }
        root
    }

    fn add_program(dir: &Path, program: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(program), "").unwrap();
        fs::set_permissions(dir.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The version of a fake program, from the first number in its path below the root.
    fn version_by_path(root: &Path) -> impl Fn(&Path) -> Result<String, String> {
        move |postgres| {
            let below = postgres.strip_prefix(root).unwrap().to_str().unwrap();
            let number = below.trim_start_matches(|c: char| !c.is_ascii_digit());
            let number = leading_number(number).ok_or("does not run")?;
            Ok(format!("postgres (PostgreSQL) {number}.1 (Fake)"))
        }
    }

    fn found_in(root: &TempDir) -> Result<Binaries, ServerError> {
        first_usable(in_usual_places(root.path()), version_by_path(root.path()))
    }

    #[test]
    fn the_newest_of_the_usual_places_is_taken() {
        let root = tree(&[
            "usr/lib/postgresql/9.6/bin",
            "usr/lib/postgresql/15/bin",
            "usr/pgsql-17/bin",
            "opt/homebrew/opt/postgresql@16/bin",
        ]);
        let found = found_in(&root).unwrap();
        assert_eq!(found.dir, root.path().join("usr/pgsql-17/bin"));
        assert_eq!(found.version, "17.1");
    }

    #[test]
    fn every_usual_place_is_found() {
        for place in USUAL_PLACES {
            let place = place.trim_start_matches('/').replace('*', "16");
            let root = tree(&[&place]);
            assert_eq!(
                in_usual_places(root.path())
                    .iter()
                    .filter(|dir| has_program(dir, "initdb"))
                    .count(),
                1
            );
        }
    }

    #[test]
    fn what_is_of_no_use_is_passed_over_with_the_reason() {
        let root = tree(&["usr/lib/postgresql/12/bin", "usr/bin"]);
        add_program(&root.path().join("usr/lib/postgresql/16/bin"), "postgres");
        let error = found_in(&root).unwrap_err();
        let ServerError::NoBinaries { passed_over, .. } = &error else {
            panic!("{error}");
        };
        let passed_over: Vec<_> = passed_over
            .iter()
            .map(|(dir, reason)| {
                (
                    dir.strip_prefix(root.path()).unwrap().to_str().unwrap(),
                    reason.as_str(),
                )
            })
            .collect();
        assert_eq!(
            passed_over,
            [
                ("usr/lib/postgresql/16/bin", "there is no `initdb` that can be run"),
                (
                    "usr/lib/postgresql/12/bin",
                    "version 12.1 is too old; 13 is the oldest that works"
                ),
                ("usr/bin", "does not run"),
            ]
        );
    }

    #[test]
    fn nothing_found_says_where_we_looked_and_what_to_install() {
        let text = found_in(&tree(&[])).unwrap_err().to_string();
        assert!(text.starts_with("no PostgreSQL server found\n"), "{text}");
        for part in USUAL_PLACES.into_iter().chain([
            "pg_config --bindir",
            "PATH",
            "apt-get install postgresql",
            "dnf install postgresql-server",
            "brew install postgresql@17",
            "DB_RACE_PG_BIN",
        ]) {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(!text.contains("passed over"), "{text}");
    }

    #[test]
    fn symlinks_in_path_are_followed_to_the_package() {
        let root = tree(&["package/16/bin", "plain"]);
        let links = root.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(root.path().join("package/16/bin/postgres"), links.join("postgres")).unwrap();
        let path = std::env::join_paths([&root.path().join("empty"), &links, &root.path().join("plain")]).unwrap();
        let real = fs::canonicalize(root.path()).unwrap();
        assert_eq!(in_path(&path), [real.join("package/16/bin"), real.join("plain")]);
    }

    #[test]
    fn a_directory_that_was_asked_for_is_the_only_one() {
        let error = find(Some(Path::new("/nowhere/bin"))).unwrap_err().to_string();
        assert!(
            error.starts_with("no usable PostgreSQL server in /nowhere/bin: "),
            "{error}"
        );
    }

    #[test]
    fn versions_are_read() {
        for (full, version, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18", 15),
            ("postgres (PostgreSQL) 18beta1", "18beta1", 18),
            ("postgres (PostgreSQL) 19devel", "19devel", 19),
        ] {
            assert_eq!(version_number(full), Some(version));
            assert_eq!(leading_number(version), Some(major));
        }
        assert_eq!(version_number("command not found"), None);
    }
}
