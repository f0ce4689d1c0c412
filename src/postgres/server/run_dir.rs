//! The run directory: everything that one server has on disk, and the sign that its owner lives.
//!
//! The directory itself is locked (`flock`) from its making to its end. The lock goes with the
//! process, however that ends, so a directory that can be locked by somebody else has no owner any
//! more. There is no lock file that could be removed on its own, by one who empties it or by a
//! cleaner of `/tmp`.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;

use super::account::Account;
use super::{PORT, ServerError};

/// How many bytes the path of a unix socket may have.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Where to go when the directory for temporary files does not do.
const FALLBACK_BASE: &str = "/tmp";
const PREFIX: &str = "db-race-";
/// How often a name may be taken, or a new directory swept, before we give up.
const MAKE_TRIES: u32 = 100;
/// How often removing may meet a file that has just been made.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(25);
const LOG_TAIL_LINES: usize = 15;
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// A locked directory. Closing it gives up the lock, but does not remove the directory.
#[derive(Debug)]
pub(super) struct RunDir {
    path: PathBuf,
    _lock: File,
}

/// Where run directories are made: where the server's user can reach them, and the socket's path is
/// short enough.
pub(super) fn base(asked: Option<&Path>, account: &Account) -> PathBuf {
    let temp_dir = asked.map_or_else(std::env::temp_dir, Path::to_owned);
    std::path::absolute(temp_dir)
        .ok()
        .filter(|base| is_suitable(base) && account.can_reach(base))
        .unwrap_or_else(|| FALLBACK_BASE.into())
}

/// Whether a socket below this path can be made, and named to the server.
fn is_suitable(base: &Path) -> bool {
    let socket = base.join(new_name(u32::MAX)).join(format!(".s.PGSQL.{PORT}"));
    // The server takes a list of socket directories, with quotes and commas.
    socket
        .to_str()
        .is_some_and(|path| path.len() <= SOCKET_PATH_MAX && !path.contains([',', '"', '\n']))
}

fn new_name(pid: u32) -> String {
    format!("{PREFIX}{pid}-{:08x}", random())
}

/// Whether this could be the name of a run directory: `db-race-<pid>-<random>`.
pub(super) fn is_run_dir_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(pid, random)| {
            !pid.is_empty()
                && pid.bytes().all(|byte| byte.is_ascii_digit())
                && random.len() == 8
                && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Names need to differ, not to be secret: a directory is made or not made, never shared.
pub(super) fn random() -> u32 {
    let bytes = RandomState::new().build_hasher().finish().to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

impl RunDir {
    /// Makes and locks a new directory.
    ///
    /// Between making and locking, a sweeper may take the directory for a leftover. It locks before
    /// it removes, as we lock before we use: whoever comes second sees it, and then we take another
    /// name.
    pub(super) fn make(base: &Path) -> Result<RunDir, ServerError> {
        for _ in 0..MAKE_TRIES {
            let path = base.join(new_name(std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(ServerError::io("make the directory", &path)(error)),
            }
            match lock(&path) {
                Ok(Some(lock)) => return Ok(RunDir { path, _lock: lock }),
                Ok(None) => {}
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(ServerError::io("lock the directory", &path)(error));
                }
            }
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(ServerError::io("make a directory in", base)(taken))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.path
    }

    /// Gives the directory itself to the server's user. As the last step: until then nobody else
    /// can put anything where root is writing.
    pub(super) fn hand_over(&self, account: &Account) -> Result<(), ServerError> {
        match account.new_owner() {
            None => Ok(()),
            Some((uid, gid)) => {
                lchown(&self.path, Some(uid), Some(gid)).map_err(ServerError::io("change the owner of", &self.path))
            }
        }
    }

    /// Takes it back from a user whose server has ended, for the same reason.
    pub(super) fn take_back(&self) -> io::Result<()> {
        lchown(&self.path, Some(geteuid().as_raw()), None)
    }

    /// Opens the log for one more process to write to, as its output and its errors.
    pub(super) fn open_log(&self) -> Result<(File, File), ServerError> {
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.log())
            .and_then(|log| Ok((log.try_clone()?, log)))
            .map_err(ServerError::io("write", &self.log()))
    }

    pub(super) fn log_tail(&self) -> String {
        let log = read_end(&self.log(), LOG_TAIL_BYTES).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Removes the directory and all that is in it; that it is gone already is fine.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut tries = 1;
        loop {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // A process that is about to end may have made one more file.
                Err(_) if tries < REMOVE_TRIES => thread::sleep(REMOVE_PAUSE),
                Err(error) => return Err(error),
            }
            tries += 1;
        }
    }
}

/// The last bytes of a file.
fn read_end(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let skip = file.metadata()?.len().saturating_sub(at_most);
    file.seek(SeekFrom::Start(skip))?;
    let mut end = Vec::new();
    file.take(at_most).read_to_end(&mut end)?;
    Ok(end)
}

/// Locks a directory; none when somebody else holds it, or has just removed it.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    let dir = match File::open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match dir.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let locked = dir.metadata()?;
    let is_same =
        fs::symlink_metadata(path).is_ok_and(|there| there.dev() == locked.dev() && there.ino() == locked.ino());
    Ok(is_same.then_some(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_others() {
        assert!(is_run_dir_name(&new_name(1)));
        assert!(is_run_dir_name("db-race-4711-0123abcd"));
        for other in [
            "db-race",
            "db-race-cache-1000",
            "db-race-4711",
            "db-race-4711-0123abcd.old",
            "db-race--0123abcd",
            "xdb-race-4711-0123abcd",
        ] {
            assert!(!is_run_dir_name(other), "{other}");
        }
    }

    #[test]
    fn a_long_base_gives_way_to_tmp() {
        let account = Account::choose().unwrap();
        let long = tempfile::tempdir().unwrap();
        let long = long.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        assert_eq!(base(Some(&long), &account), Path::new("/tmp"));
        assert_eq!(base(Some(Path::new("/nowhere")), &account), Path::new("/tmp"));
        assert_eq!(base(Some(Path::new("/var/tmp")), &account), Path::new("/var/tmp"));
    }

    #[test]
    fn a_base_that_the_server_cannot_name_is_not_suitable() {
        assert!(is_suitable(Path::new("/tmp/with space")));
        assert!(!is_suitable(Path::new("/tmp/a,b")));
        assert!(!is_suitable(Path::new("/tmp/a\"b")));
    }

    #[test]
    fn the_end_of_a_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read_end(&file, 3).unwrap(), b"789");
        assert_eq!(read_end(&file, 100).unwrap(), b"0123456789");
        assert!(read_end(&dir.path().join("missing"), 3).is_err());
    }

    #[test]
    fn a_directory_is_locked_until_it_is_closed() {
        let base = tempfile::tempdir().unwrap();
        let dir = RunDir::make(base.path()).unwrap();
        let path = dir.path().to_owned();
        assert!(lock(&path).unwrap().is_none());
        drop(dir);
        assert!(lock(&path).unwrap().is_some());
        fs::remove_dir(&path).unwrap();
        assert!(lock(&path).unwrap().is_none());
    }
}
