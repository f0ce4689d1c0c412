//! The template: what `initdb` makes is made once for each version, kept in a cache, and copied for each server.
//!
//! A template is put into the cache by one rename, with a marker in it that says how many files and bytes it has. A copy
//! that counts anything else is not used, and the template is thrown away. Nothing that goes wrong with the cache keeps a
//! server from starting; it is then made by `initdb`, which takes a little longer.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::account::Account;
use super::binaries::Binaries;
use super::run_dir::{self, RunDir};
use super::{ServerError, USER, child, postmaster};

/// Changed when the same flags come to mean something else.
const FORMAT: &str = "2";
/// No sync: a template that did not reach the disk is found out by its marker. The same locale on every machine.
const INITDB_FLAGS: [&str; 7] = [
    "--no-sync",
    "--no-locale",
    "--encoding",
    "UTF8",
    "--auth=trust",
    "--username",
    USER,
];
const INITDB_AT_MOST: Duration = Duration::from_secs(60);

const MARKER: &str = "complete";
const TEMPLATE_PREFIX: &str = "template-";
const ASIDE_PREFIX: &str = "aside-";
/// A template of a version that is no longer used, and one whose making was killed, don't stay for ever.
const UNUSED_AT_MOST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const ASIDE_AT_MOST: Duration = Duration::from_secs(60 * 60);

/// Where a data directory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// From the template in the cache.
    Template,
    /// From `initdb`, because there was no template yet.
    Initdb,
}

/// The place of a template in the cache, whether it is there or not.
#[derive(Debug)]
pub(super) struct Template {
    /// None when there is no directory that we may use as a cache.
    path: Option<PathBuf>,
}

/// What a copy has to amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    files: u64,
    bytes: u64,
}

/// Makes the data directory of a run directory, and gives both to the server's user.
pub(super) fn make_data(
    template: &Template,
    binaries: &Binaries,
    account: &Account,
    dir: &RunDir,
) -> Result<DataSource, ServerError> {
    if template.copy_to(&dir.data(), account.new_owner()) {
        dir.hand_over(account)?;
        return Ok(DataSource::Template);
    }
    // A copy that broke off.
    if let Err(error) = fs::remove_dir_all(dir.data())
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(ServerError::io("remove", &dir.data())(error));
    }
    dir.hand_over(account)?;
    initdb(binaries, account, dir)?;
    trim(&dir.data()).map_err(ServerError::io("remove files in", &dir.data()))?;
    template.store(&dir.data());
    Ok(DataSource::Initdb)
}

fn initdb(binaries: &Binaries, account: &Account, dir: &RunDir) -> Result<(), ServerError> {
    let mut command = postmaster::quiet(binaries, "initdb", account, dir);
    let log = dir.open_log()?;
    let both = log
        .try_clone()
        .map_err(ServerError::io("open the log in", dir.path()))?;
    // The guard knows it by this beginning.
    command
        .arg("-D")
        .arg(dir.data())
        .args(INITDB_FLAGS)
        .stdout(log)
        .stderr(both);

    let program = binaries.dir.join("initdb");
    let mut initdb = command.spawn().map_err(ServerError::io("start", &program))?;
    let status = match child::wait(&mut initdb, INITDB_AT_MOST).map_err(ServerError::io("wait for", &program))? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => {
            child::signal_group(&initdb, Signal::SIGKILL);
            let _ = initdb.wait();
            format!("not done after {} s", INITDB_AT_MOST.as_secs())
        }
    };
    let log = dir.log_tail();
    Err(ServerError::Initdb { status, log })
}

/// Removes the free space and visibility maps of the system catalogs: PostgreSQL makes them again when it wants them.
///
/// They are a quarter of all files, and making files is most of the work of a copy.
fn trim(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            trim(&entry.path())?;
        } else if is_map(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// `1259_fsm`, `1259_vm`.
fn is_map(name: &OsStr) -> bool {
    let relation = name
        .to_str()
        .and_then(|name| name.strip_suffix("_fsm").or_else(|| name.strip_suffix("_vm")));
    relation.is_some_and(|relation| !relation.is_empty() && relation.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Template {
    pub(super) fn new(cache_dir: Option<&Path>, binaries: &Binaries) -> Template {
        let path = cache(cache_dir).map(|cache| cache.join(name(binaries)));
        Template { path }
    }

    /// Copies the template, and says whether the copy is good. A template that gives no good copy is thrown away.
    fn copy_to(&self, data: &Path, owner: Option<(u32, u32)>) -> bool {
        let Some(path) = self.path.as_deref().filter(|path| path.exists()) else {
            return false;
        };
        let is_good = fs::read_to_string(path.join(MARKER))
            .is_ok_and(|marker| copy_tree(&path.join("data"), data, owner).is_ok_and(|tally| marker == tally.marker()));
        if is_good {
            // The marker's time says when the template was last of use.
            let _ = File::open(path.join(MARKER)).and_then(|marker| marker.set_modified(SystemTime::now()));
        } else {
            self.discard();
        }
        is_good
    }

    /// Puts a copy of a fresh data directory into the cache. When another process was quicker, its template is as good.
    fn store(&self, data: &Path) {
        let Some((cache, path)) = self.path.as_ref().and_then(|path| Some((path.parent()?, path))) else {
            return;
        };
        tidy(cache);
        let aside = aside(cache);
        let stored = DirBuilder::new()
            .mode(0o700)
            .create(&aside)
            .and_then(|()| copy_tree(data, &aside.join("data"), None))
            .and_then(|tally| fs::write(aside.join(MARKER), tally.marker()))
            .and_then(|()| fs::rename(&aside, path));
        if stored.is_err() {
            let _ = fs::remove_dir_all(&aside);
        }
    }

    /// Throws the template away. Moved aside first, so that nobody begins to copy one that is vanishing.
    pub(super) fn discard(&self) {
        if let Some((cache, path)) = self.path.as_ref().and_then(|path| Some((path.parent()?, path))) {
            let aside = aside(cache);
            if fs::rename(path, &aside).is_ok() {
                let _ = fs::remove_dir_all(&aside);
            }
        }
    }
}

impl Tally {
    fn marker(self) -> String {
        format!("{} files\n{} bytes\n", self.files, self.bytes)
    }
}

/// Two servers share a template only if it would be the same: same version and build, same flags.
fn name(binaries: &Binaries) -> String {
    let parts = [
        FORMAT,
        &binaries.full_version,
        &binaries.dir.to_string_lossy(),
        std::env::consts::ARCH,
        &INITDB_FLAGS.join(" "),
    ];
    format!(
        "{TEMPLATE_PREFIX}{}-{:016x}",
        binaries.version,
        fnv1a(&parts.join("\n"))
    )
}

/// FNV-1a, which stays the same from one compiler to the next.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn aside(cache: &Path) -> PathBuf {
    cache.join(format!(
        "{ASIDE_PREFIX}{}-{:08x}",
        std::process::id(),
        run_dir::random()
    ))
}

/// The cache directory, made if need be; none when there is no place that only we can write to.
fn cache(asked: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value: &OsString| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(asked) = asked.map(Path::to_owned).or_else(|| variable("DB_RACE_CACHE")) {
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

/// Whether the directory is there, or can be made, and nobody else can put a template of theirs into it.
fn is_ours_alone(dir: &Path) -> bool {
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    fs::symlink_metadata(dir)
        .is_ok_and(|dir| dir.is_dir() && dir.uid() == geteuid().as_raw() && dir.mode() & 0o022 == 0)
}

/// Removes from the cache what nobody uses.
fn tidy(cache: &Path) {
    let is_older = |path: &Path, than: Duration| {
        let modified = fs::metadata(path).and_then(|found| found.modified());
        modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > than))
    };
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPLATE_PREFIX) && is_older(&path.join(MARKER), UNUSED_AT_MOST)
            || name.starts_with(ASIDE_PREFIX) && is_older(&path, ASIDE_AT_MOST)
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Copies a directory with its permissions, for a new owner perhaps. A data directory has files and directories only;
/// anything else is refused.
fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<Tally> {
    let mode = fs::symlink_metadata(from)?.permissions().mode();
    DirBuilder::new().mode(mode & 0o777).create(to)?;
    let mut tally = Tally::default();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            let below = copy_tree(&entry.path(), &target, owner)?;
            tally.files += below.files;
            tally.bytes += below.bytes;
        } else if kind.is_file() {
            tally.bytes += fs::copy(entry.path(), &target)?;
            tally.files += 1;
            change_owner(&target, owner)?;
        } else {
            return Err(io::Error::other("neither a file nor a directory"));
        }
    }
    change_owner(to, owner)?;
    Ok(tally)
}

fn change_owner(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn template(cache: &TempDir) -> Template {
        Template {
            path: Some(cache.path().join("template-1")),
        }
    }

    /// Something like a data directory.
    fn data(dir: &TempDir) -> PathBuf {
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("base/1")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(data.join("base/1/1259"), [7; 8192]).unwrap();
        data
    }

    /// A cache with a template in it.
    fn stored() -> (TempDir, Template) {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let template = template(&cache);
        template.store(&data(&dir));
        (cache, template)
    }

    fn copies(template: &Template) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        let is_good = template.copy_to(&copy, None);
        if is_good {
            assert_eq!(fs::read(copy.join("base/1/1259")).unwrap(), [7; 8192]);
        }
        is_good
    }

    fn names(cache: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(cache.path()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_template_is_copied_as_it_was_stored() {
        let (cache, template) = stored();
        assert!(copies(&template));
        assert_eq!(names(&cache), ["template-1"]);
    }

    #[test]
    fn a_damaged_template_is_thrown_away_and_made_anew() {
        let damages: [fn(&Path); 5] = [
            |path| fs::remove_file(path.join(MARKER)).unwrap(),
            |path| fs::write(path.join(MARKER), "").unwrap(),
            |path| fs::remove_file(path.join("data/PG_VERSION")).unwrap(),
            |path| fs::write(path.join("data/base/1/1259"), "").unwrap(),
            |path| std::os::unix::fs::symlink("/etc/passwd", path.join("data/link")).unwrap(),
        ];
        for damage in damages {
            let (cache, template) = stored();
            damage(&cache.path().join("template-1"));
            assert!(!copies(&template));
            assert!(names(&cache).is_empty());

            template.store(&data(&tempfile::tempdir().unwrap()));
            assert!(copies(&template));
        }
    }

    #[test]
    fn two_that_store_at_once_leave_one_good_template() {
        let cache = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let dir = tempfile::tempdir().unwrap();
                    template(&cache).store(&data(&dir));
                    assert!(copies(&template(&cache)));
                });
            }
        });
        assert_eq!(names(&cache), ["template-1"]);
    }

    #[test]
    fn without_a_cache_there_is_no_template() {
        let template = Template { path: None };
        template.store(&data(&tempfile::tempdir().unwrap()));
        assert!(!copies(&template));
    }

    #[test]
    fn what_nobody_uses_is_tidied_up() {
        let (cache, template) = stored();
        let long_ago = SystemTime::now() - UNUSED_AT_MOST - Duration::from_secs(60);
        let old = cache.path().join("template-old");
        fs::create_dir(&old).unwrap();
        fs::write(old.join(MARKER), "").unwrap();
        File::options()
            .write(true)
            .open(old.join(MARKER))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let aside = cache.path().join("aside-1-2");
        fs::create_dir(&aside).unwrap();
        File::open(&aside).unwrap().set_modified(long_ago).unwrap();
        fs::create_dir(cache.path().join("aside-3-4")).unwrap();

        tidy(cache.path());

        let mut names = names(&cache);
        names.sort();
        assert_eq!(names, ["aside-3-4", "template-1"]);
        assert!(copies(&template));
    }

    #[test]
    fn a_cache_that_others_may_write_to_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_ours_alone(&dir.path().join("made/here")));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours_alone(dir.path()));
        assert!(!is_ours_alone(Path::new("/dev/null/below")));
    }

    #[test]
    fn another_build_has_another_template() {
        let binaries = |dir: &str, full: &str| Binaries {
            dir: dir.into(),
            version: "15.18".to_owned(),
            full_version: full.to_owned(),
        };
        let one = name(&binaries("/a", "postgres (PostgreSQL) 15.18"));
        assert!(one.starts_with("template-15.18-"), "{one}");
        assert_ne!(one, name(&binaries("/b", "postgres (PostgreSQL) 15.18")));
        assert_ne!(one, name(&binaries("/a", "postgres (PostgreSQL) 15.18 (Debian)")));
        // It must stay what it is from one build of ours to the next.
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
