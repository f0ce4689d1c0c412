//! The template: what `initdb` makes is made once for each version, kept in a cache, and copied for
//! each server.
//!
//! A template is put into the cache by one rename, with a marker in it that says how many files and
//! bytes it has. A copy that counts anything else is not used, and the template is thrown away.
//! Nothing that goes wrong with the cache keeps a server from starting; its data is then made by
//! `initdb`, which takes longer.
//!
//! # Spares
//!
//! A copy is a thousand small files, and making and removing them is most of the work of a start.
//! So the data directory of a server that was ended in order is not removed: it is made the same as
//! the template again, which means some thirty files, and moved into the cache for the next start,
//! which looks through it once more. On ext4 without a journal, as virtual machines have it, this
//! is what keeps starts quick: such a file system does not use an inode again for some minutes, and
//! looks at all of those whenever a file is made; after sixty starts, a copy took 0.65 s instead of
//! 0.07 s. There are only a few spares. Where cache and run directory are on different file systems
//! there are none.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::account::Account;
use super::binaries::Binaries;
use super::cache;
use super::copy::{Tally, mirror};
use super::data::{DataSource, INITDB_FLAGS};

/// Changed when the same flags come to mean something else.
const FORMAT: &str = "1";

const MARKER: &str = "complete";
const TEMPLATE_PREFIX: &str = "template-";
const SPARE_PREFIX: &str = "spare-";
/// As many as servers that are commonly run side by side.
const SPARES_MAX: u32 = 2;

/// The template of one version, whether it is there or not.
#[derive(Debug)]
pub(super) struct Template {
    place: Option<Place>,
    account: Account,
}

/// Where a template is, or will be.
#[derive(Debug)]
struct Place {
    cache: PathBuf,
    name: String,
}

impl Template {
    pub(super) fn new(cache: Option<&Path>, binaries: &Binaries, account: Account) -> Template {
        let place = cache::dir(cache).map(|cache| Place {
            cache,
            name: name(binaries),
        });
        Template { place, account }
    }

    /// Makes a copy, if there is a template that gives a good one. One that does not is thrown
    /// away.
    pub(super) fn copy_to(&self, data: &Path) -> Option<DataSource> {
        let place = self.place.as_ref().filter(|place| place.path().exists())?;
        let source = if place.take_spare(data, &self.account) {
            DataSource::Spare
        } else {
            DataSource::Template
        };
        if !self.mirror(place, data) {
            self.discard();
            return None;
        }
        // The time says when the template was last of use.
        let _ = File::open(place.path()).and_then(|dir| dir.set_modified(SystemTime::now()));
        Some(source)
    }

    /// Makes a directory the same as the template, and says whether it is.
    fn mirror(&self, place: &Place, data: &Path) -> bool {
        fs::read_to_string(place.path().join(MARKER)).is_ok_and(|marker_found| {
            mirror(&place.path().join("data"), data, self.account.new_owner())
                .is_ok_and(|tally| marker(tally) == marker_found)
        })
    }

    /// Puts a copy of a fresh data directory into the cache. When another process was quicker, its
    /// template is as good.
    pub(super) fn store(&self, data: &Path) {
        let Some(place) = &self.place else {
            return;
        };
        cache::tidy(&place.cache, &[TEMPLATE_PREFIX, SPARE_PREFIX]);
        let aside = cache::aside(&place.cache);
        let stored = DirBuilder::new()
            .mode(0o700)
            .create(&aside)
            .and_then(|()| mirror(data, &aside.join("data"), None))
            .and_then(|tally| fs::write(aside.join(MARKER), marker(tally)))
            .and_then(|()| fs::rename(&aside, place.path()));
        if stored.is_err() {
            let _ = fs::remove_dir_all(&aside);
        }
    }

    /// Throws the template away. It is moved aside first, so that nobody begins to copy one that is
    /// vanishing.
    pub(super) fn discard(&self) {
        if let Some(place) = &self.place {
            let aside = cache::aside(&place.cache);
            if fs::rename(place.path(), &aside).is_ok() {
                let _ = fs::remove_dir_all(&aside);
            }
        }
    }

    /// Keeps the data directory of an ended server as a spare, if it can be of use.
    ///
    /// What is not kept stays where it is, to be removed with the run directory.
    pub(super) fn keep_spare(&self, data: &Path) {
        let Some(place) = &self.place else {
            return;
        };
        let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev()).ok();
        let has_room = place.spares().any(|spare| !spare.exists());
        if has_room && device(data) == device(&place.cache) && self.mirror(place, data) {
            // A place that another process has filled meanwhile refuses.
            let _ = place.spares().any(|spare| fs::rename(data, spare).is_ok());
        }
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// The places for spares, filled or not.
    fn spares(&self) -> impl Iterator<Item = PathBuf> {
        (1..=SPARES_MAX).map(|number| {
            let name = format!("{SPARE_PREFIX}{}-{number}", self.name);
            self.cache.join(name)
        })
    }

    /// Moves a spare to where a copy is wanted, and says whether there was one. Whoever renames it
    /// first has it.
    fn take_spare(&self, data: &Path, account: &Account) -> bool {
        self.spares().any(|spare| {
            // One that belonged to another user would stay that user's.
            fs::symlink_metadata(&spare).is_ok_and(|found| account.is(found.uid())) && fs::rename(spare, data).is_ok()
        })
    }
}

fn marker(tally: Tally) -> String {
    format!("{} files\n{} bytes\n", tally.files, tally.bytes)
}

/// Two servers share a template only if theirs would be the same: same version and build, same
/// flags.
fn name(binaries: &Binaries) -> String {
    let parts = [
        FORMAT,
        &binaries.full_version,
        &binaries.dir.to_string_lossy(),
        std::env::consts::ARCH,
        &INITDB_FLAGS.join(" "),
    ];
    let hash = fnv1a(&parts.join("\n"));
    format!("{TEMPLATE_PREFIX}{}-{hash:016x}", binaries.version)
}

/// FNV-1a, which stays the same from one compiler to the next.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn template(cache: &Path) -> Template {
        let place = Place {
            cache: cache.to_owned(),
            name: "template-1".to_owned(),
        };
        Template {
            place: Some(place),
            account: Account::choose().unwrap(),
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

    /// A cache with a template in it, and a directory for copies.
    fn stored() -> (TempDir, Template) {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let template = template(&cache);
        template.store(&data(&dir));
        (dir, template)
    }

    /// Makes a copy in a new directory.
    fn copy(dir: &TempDir, template: &Template, name: &str) -> (PathBuf, Option<DataSource>) {
        let path = dir.path().join(name);
        let source = template.copy_to(&path);
        if source.is_some() {
            assert_eq!(fs::read(path.join("base/1/1259")).unwrap(), [7; 8192]);
            assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
        }
        (path, source)
    }

    fn in_cache(dir: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path().join("cache")).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_template_is_copied_as_it_was_stored() {
        let (dir, template) = stored();
        assert_eq!(copy(&dir, &template, "copy").1, Some(DataSource::Template));
        assert_eq!(in_cache(&dir), ["template-1"]);
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
            let (dir, template) = stored();
            damage(&dir.path().join("cache/template-1"));
            assert_eq!(copy(&dir, &template, "bad").1, None);
            assert!(in_cache(&dir).is_empty());

            template.store(&data(&dir));
            assert_eq!(copy(&dir, &template, "good").1, Some(DataSource::Template));
        }
    }

    #[test]
    fn two_that_store_at_once_leave_one_good_template() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let dir = tempfile::tempdir().unwrap();
                    template(&cache).store(&data(&dir));
                    assert!(copy(&dir, &template(&cache), "copy").1.is_some());
                });
            }
        });
        assert_eq!(in_cache(&dir), ["template-1"]);
    }

    #[test]
    fn a_used_copy_becomes_a_spare_and_is_as_new() {
        let (dir, template) = stored();
        let (first, _) = copy(&dir, &template, "first");
        fs::write(first.join("PG_VERSION"), "used").unwrap();
        fs::write(first.join("table"), "rows").unwrap();
        template.keep_spare(&first);
        assert!(!first.exists());

        let (second, source) = copy(&dir, &template, "second");
        assert_eq!(source, Some(DataSource::Spare));
        assert_eq!(fs::read(second.join("PG_VERSION")).unwrap(), b"15\n");
        assert_eq!(in_cache(&dir), ["template-1"]);
    }

    #[test]
    fn a_spare_that_was_changed_in_the_cache_is_mended() {
        let (dir, template) = stored();
        let (first, _) = copy(&dir, &template, "first");
        template.keep_spare(&first);
        let spare = dir.path().join("cache/spare-template-1-1");
        fs::write(spare.join("base/1/1259"), "").unwrap();
        fs::write(spare.join("postmaster.pid"), "1").unwrap();
        assert_eq!(copy(&dir, &template, "second").1, Some(DataSource::Spare));
    }

    #[test]
    fn there_are_only_a_few_spares() {
        let (dir, template) = stored();
        let copies = ["1", "2", "3"].map(|name| copy(&dir, &template, name).0);
        for copy in &copies {
            template.keep_spare(copy);
        }
        assert!(copies[2].exists());
        assert_eq!(
            in_cache(&dir),
            ["spare-template-1-1", "spare-template-1-2", "template-1"]
        );
    }

    #[test]
    fn a_spare_of_another_user_is_not_taken() {
        let (dir, template) = stored();
        template.keep_spare(&copy(&dir, &template, "first").0);
        let stranger = Template {
            account: Account::stranger(),
            ..template
        };
        let place = stranger.place.as_ref().unwrap();
        assert!(!place.take_spare(&dir.path().join("second"), &stranger.account));
    }

    #[test]
    fn without_a_cache_there_is_no_template() {
        let dir = tempfile::tempdir().unwrap();
        let template = Template {
            place: None,
            account: Account::choose().unwrap(),
        };
        template.store(&data(&dir));
        assert_eq!(copy(&dir, &template, "copy").1, None);
    }

    #[test]
    fn another_build_has_another_template() {
        let name = |dir: &str, full_version: &str| {
            name(&Binaries {
                dir: dir.into(),
                version: "15.18".to_owned(),
                full_version: full_version.to_owned(),
            })
        };
        let one = name("/a", "postgres (PostgreSQL) 15.18");
        assert!(one.starts_with("template-15.18-"), "{one}");
        assert_ne!(one, name("/b", "postgres (PostgreSQL) 15.18"));
        assert_ne!(one, name("/a", "postgres (PostgreSQL) 15.18 (Debian)"));
        // It must stay what it is from one build of ours to the next.
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
