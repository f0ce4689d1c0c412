//! The sweep: leftovers of runs whose process and guard were both killed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::account::Account;
use super::{guard, run_dir};

/// Clears away every run directory in `base` that is ours and has no living owner.
///
/// What cannot be cleared away is left for another time: it is no reason not to start.
pub(super) fn sweep(base: &Path, account: &Account) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(run_dir::is_run_dir_name) {
            sweep_one(&entry.path(), account);
        }
    }
}

fn sweep_one(dir: &Path, account: &Account) {
    // Anybody may put anything into /tmp: a symlink, or a directory of theirs.
    let is_ours = fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && account.answers_for(found.uid()));
    if !is_ours {
        return;
    }
    // Held to the end, so that no other sweeper joins in. Its owner would hold it if it were alive.
    if let Ok(Some(_lock)) = run_dir::lock(dir) {
        let _ = guard::clear_away(dir);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{self, ScopedJoinHandle};

    use super::*;
    use crate::postgres::server::run_dir::RunDir;

    #[test]
    fn only_leftovers_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let account = Account::choose().unwrap();
        let living = RunDir::make(base.path()).unwrap();
        let leftover = base.path().join("db-race-1-00000001");
        let elsewhere = base.path().join("elsewhere");
        let link = base.path().join("db-race-1-00000002");
        let file = base.path().join("db-race-1-00000003");
        let cache = base.path().join("db-race-cache-0");
        for dir in [&leftover, &elsewhere, &cache] {
            fs::create_dir(dir).unwrap();
            File::create(dir.join("content")).unwrap();
        }
        symlink(&elsewhere, &link).unwrap();
        File::create(&file).unwrap();

        sweep(base.path(), &account);

        assert!(!leftover.exists());
        assert!(living.path().exists());
        assert!(elsewhere.join("content").exists());
        assert!(link.exists() && file.exists() && cache.exists());
    }

    #[test]
    fn leftovers_of_others_are_theirs() {
        let base = tempfile::tempdir().unwrap();
        let leftover = base.path().join("db-race-1-00000001");
        fs::create_dir(&leftover).unwrap();
        if !nix::unistd::geteuid().is_root() {
            // Whose it is cannot be changed; that is enough for this test to have no premise.
            return;
        }
        std::os::unix::fs::chown(&leftover, Some(4_000_002), None).unwrap();
        sweep(base.path(), &Account::stranger());
        assert!(leftover.exists());
    }

    /// The window between making and locking: two that make directories, and two that sweep, all
    /// the time.
    #[test]
    fn what_is_just_being_made_is_not_swept() {
        let base = tempfile::tempdir().unwrap();
        let account = Account::choose().unwrap();
        let swept_on = AtomicBool::new(true);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while swept_on.load(Ordering::Relaxed) {
                        sweep(base.path(), &account);
                    }
                });
            }
            let makers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let dir = RunDir::make(base.path()).unwrap();
                            let content = dir.path().join("content");
                            fs::write(&content, "x").unwrap();
                            thread::yield_now();
                            assert_eq!(fs::read(&content).unwrap(), b"x");
                            dir.remove().unwrap();
                        }
                    })
                })
                .collect();
            let results: Vec<_> = makers.into_iter().map(ScopedJoinHandle::join).collect();
            swept_on.store(false, Ordering::Relaxed);
            for result in results {
                result.unwrap();
            }
        });
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
