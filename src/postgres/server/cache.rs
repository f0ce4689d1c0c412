//! The cache directory, where templates stay from one run to the next.
//!
//! Whatever is put there is made aside and renamed into its place, so that nobody sees it half
//! made.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use super::run_dir;

/// What is made aside has this prefix, whatever becomes of it.
const ASIDE_PREFIX: &str = "aside-";
/// A template of a version that is no longer used does not stay for ever.
const UNUSED_AT_MOST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Nor does what was being made when its maker was killed.
const ASIDE_AT_MOST: Duration = Duration::from_secs(60 * 60);

/// The cache directory, made if need be; none when there is no place that only we can write to.
pub(super) fn dir(asked: Option<&Path>) -> Option<PathBuf> {
    let asked = asked.map(Path::to_owned).or_else(|| variable("DB_RACE_CACHE"));
    if let Some(asked) = asked {
        // Asked for by name, it need not be ours alone.
        return fs::create_dir_all(&asked).ok().map(|()| asked);
    }
    let of_user = if let Some(cache) = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        Some(cache)
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        variable("HOME").map(|home| home.join(".cache"))
    };
    let of_user = of_user.map(|cache| cache.join("db-race"));
    let in_temp = std::env::temp_dir().join(format!("db-race-cache-{}", geteuid()));
    of_user.into_iter().chain([in_temp]).find(|dir| is_ours_alone(dir))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value: &OsString| !value.is_empty())
        .map(PathBuf::from)
}

/// Whether the directory is there, or can be made, and nobody else can put a template of theirs
/// into it.
fn is_ours_alone(dir: &Path) -> bool {
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    fs::symlink_metadata(dir)
        .is_ok_and(|dir| dir.is_dir() && dir.uid() == geteuid().as_raw() && dir.mode() & 0o022 == 0)
}

/// A path in the cache that nobody else uses.
pub(super) fn aside(cache: &Path) -> PathBuf {
    let (pid, random) = (std::process::id(), run_dir::random());
    cache.join(format!("{ASIDE_PREFIX}{pid}-{random:08x}"))
}

/// Removes what nobody uses: of the things with these prefixes, those that have not been touched
/// for a long time.
pub(super) fn tidy(cache: &Path, prefixes: &[&str]) {
    let entries = fs::read_dir(cache);
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let at_most = if name.starts_with(ASIDE_PREFIX) {
            ASIDE_AT_MOST
        } else if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            UNUSED_AT_MOST
        } else {
            continue;
        };
        let touched = entry.metadata().and_then(|found| found.modified());
        if touched.is_ok_and(|touched| touched.elapsed().is_ok_and(|age| age > at_most)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_nobody_uses_is_tidied_up() {
        let cache = tempfile::tempdir().unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        for (name, age) in [
            ("template-new", hours(29 * 24)),
            ("template-old", hours(31 * 24)),
            ("something-else", hours(31 * 24)),
            ("aside-new", hours(0)),
            ("aside-old", hours(2)),
        ] {
            let path = cache.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "").unwrap();
            let touched = SystemTime::now() - age;
            File::open(&path).unwrap().set_modified(touched).unwrap();
        }

        tidy(cache.path(), &["template-"]);

        let entries = fs::read_dir(cache.path()).unwrap().flatten();
        let mut left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["aside-new", "something-else", "template-new"]);
    }

    #[test]
    fn a_cache_that_others_may_write_to_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_ours_alone(&dir.path().join("made/here")));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours_alone(dir.path()));
        assert!(!is_ours_alone(Path::new("/dev/null/below")));
    }
}
