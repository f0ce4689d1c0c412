//! Makes one directory the same as another: by copying, or by mending an older copy.
//!
//! A file that has the size and the time of its original is taken to be the same. That is safe
//! here: a copy is given its original's time, and whatever the server writes later gets a later
//! one.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// What a directory amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A user and a group.
pub(super) type Owner = (u32, u32);

/// Makes `to` the same as `from`, with its permissions, and for another owner perhaps.
///
/// A data directory has files and directories only; anything else is refused.
pub(super) fn mirror(from: &Path, to: &Path, owner: Option<Owner>) -> io::Result<Tally> {
    let is_new = make_dir(from, to)?;
    let mut names = HashSet::new();
    let mut tally = Tally::default();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata()?;
        if found.is_dir() {
            let below = mirror(&source, &target, owner)?;
            tally.files += below.files;
            tally.bytes += below.bytes;
        } else if found.is_file() {
            if is_new || !keep_or_remove(&target, &found)? {
                fs::copy(&source, &target)?;
                change_owner(&target, owner)?;
                set_time(&target, &found)?;
            }
            tally.files += 1;
            tally.bytes += found.len();
        } else {
            return Err(io::Error::other("neither a file nor a directory"));
        }
        names.insert(entry.file_name());
    }
    if is_new {
        change_owner(to, owner)?;
    } else {
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if !names.contains(&entry.file_name()) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(tally)
}

/// Sees to it that `to` is a directory, and says whether it has just been made.
fn make_dir(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(to) {
        Ok(found) if found.is_dir() => return Ok(false),
        Ok(_) => fs::remove_file(to)?,
        Err(_) => {}
    }
    let mode = fs::symlink_metadata(from)?.permissions().mode();
    DirBuilder::new().mode(mode & 0o777).create(to)?;
    Ok(true)
}

/// Whether the target is the same already. What is there instead is removed, never written to: it
/// may be a symlink.
fn keep_or_remove(target: &Path, source: &Metadata) -> io::Result<bool> {
    let Ok(found) = fs::symlink_metadata(target) else {
        return Ok(false);
    };
    let is_same = found.is_file()
        && found.len() == source.len()
        && found.mtime() == source.mtime()
        && found.mtime_nsec() == source.mtime_nsec();
    if !is_same {
        remove(target)?;
    }
    Ok(is_same)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn change_owner(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| lchown(path, Some(uid), Some(gid)))
}

fn set_time(path: &Path, source: &Metadata) -> io::Result<()> {
    let time = TimeSpec::new(source.mtime(), source.mtime_nsec());
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// Two files and a directory, and where a copy of them is to be made.
    fn original() -> (TempDir, PathBuf, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        fs::create_dir_all(from.join("base/1")).unwrap();
        fs::write(from.join("PG_VERSION"), "15\n").unwrap();
        fs::write(from.join("base/1/1259"), [7; 8192]).unwrap();
        fs::set_permissions(from.join("base"), fs::Permissions::from_mode(0o700)).unwrap();
        (base, from, to)
    }

    /// Every path below a directory, with the content of files.
    fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                found.extend(
                    content(&path)
                        .into_iter()
                        .map(|(below, bytes)| (path.join(below), bytes)),
                );
                found.push((path, Vec::new()));
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
        found
            .iter_mut()
            .for_each(|(path, _)| *path = path.strip_prefix(dir).unwrap_or(path).to_owned());
        found.sort();
        found
    }

    #[test]
    fn a_copy_is_the_same() {
        let (_base, from, to) = original();
        let tally = mirror(&from, &to, None).unwrap();
        assert_eq!(tally, Tally { files: 2, bytes: 8195 });
        assert_eq!(content(&to), content(&from));
        assert_eq!(
            fs::metadata(to.join("base")).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn an_older_copy_is_mended() {
        let damages: [fn(&Path); 8] = [
            |_| {},
            |to| fs::write(to.join("base/1/1259"), [8; 8192]).unwrap(),
            |to| fs::write(to.join("base/1/1259"), "").unwrap(),
            |to| fs::remove_file(to.join("PG_VERSION")).unwrap(),
            |to| fs::remove_dir_all(to.join("base/1")).unwrap(),
            |to| fs::write(to.join("postmaster.pid"), "1").unwrap(),
            |to| {
                fs::create_dir_all(to.join("base/16384/deep")).unwrap();
                fs::write(to.join("base/16384/deep/file"), "1").unwrap();
            },
            |to| {
                fs::remove_file(to.join("PG_VERSION")).unwrap();
                fs::create_dir(to.join("PG_VERSION")).unwrap();
                fs::remove_dir_all(to.join("base/1")).unwrap();
                fs::write(to.join("base/1"), "").unwrap();
            },
        ];
        for damage in damages {
            let (_base, from, to) = original();
            let tally = mirror(&from, &to, None).unwrap();
            damage(&to);
            assert_eq!(mirror(&from, &to, None).unwrap(), tally);
            assert_eq!(content(&to), content(&from));
        }
    }

    #[test]
    fn what_is_the_same_is_not_written_again() {
        let (_base, from, to) = original();
        mirror(&from, &to, None).unwrap();
        let inode = |path: &Path| fs::metadata(path.join("base/1/1259")).unwrap().ino();
        let before = inode(&to);
        mirror(&from, &to, None).unwrap();
        assert_eq!(inode(&to), before);
    }

    #[test]
    fn nothing_is_written_through_a_symlink() {
        let (base, from, to) = original();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "mine").unwrap();
        fs::create_dir(&to).unwrap();
        symlink(outside.join("file"), to.join("PG_VERSION")).unwrap();
        symlink(&outside, to.join("base")).unwrap();
        symlink(&outside, to.join("extra")).unwrap();

        mirror(&from, &to, None).unwrap();
        assert_eq!(content(&to), content(&from));
        assert_eq!(content(&outside), [("file".into(), b"mine".to_vec())]);
    }

    #[test]
    fn a_symlink_is_not_copied() {
        let (_base, from, to) = original();
        symlink("/etc/passwd", from.join("link")).unwrap();
        assert!(mirror(&from, &to, None).is_err());
    }
}
