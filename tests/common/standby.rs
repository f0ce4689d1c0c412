//! A hot standby of a test's server.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::database::Database;
use super::{TestServer, wait_until};

const AT_MOST: Duration = Duration::from_secs(60);

/// Runs the server that is named behind it, and ends it when standard input ends: when this process does, at the latest.
const UNTIL_EOF: &str = r#""$@" </dev/null & read -r _; kill -INT $! 2>/dev/null; wait"#;

/// Follows a [`TestServer`] through its socket, and answers queries. Dropped, it is ended.
///
/// It is made by a base backup through SQL, because not every set of binaries has `pg_basebackup`.
pub struct Standby {
    dir: PathBuf,
    primary_url: String,
    guard: Child,
}

impl Standby {
    /// Makes a standby in a directory that does not exist yet, in a place that the server's user can reach.
    pub fn of(primary: &TestServer, dir: &Path) -> Standby {
        let data = dir.join("data");
        fs::create_dir(dir).unwrap();
        let owner = fs::metadata(primary.server.data_dir()).unwrap();
        let (uid, gid) = (owner.uid(), owner.gid());
        back_up(primary, &data);
        let conninfo = format!("host={} user=postgres", primary.server.dir().display());
        // a standby must have room for all that its primary has room for, so it gets the same settings
        let settings = primary.rows("select name, setting from pg_settings where source = 'command line'");
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_EOF, "sh"]);
        command
            .arg(primary.server.bin_dir().join("postgres"))
            .arg("-D")
            .arg(&data);
        for setting in settings {
            let value = match setting[0].as_str() {
                "data_directory" | "config_file" => continue,
                "unix_socket_directories" => dir.display().to_string(),
                _ => setting[1].clone(),
            };
            command.arg("-c").arg(format!("{}={value}", setting[0]));
        }
        command.arg("-c").arg(format!("primary_conninfo={conninfo}"));
        let log = File::create(dir.join("log")).unwrap();
        for path in [dir, &data.join("backup_label"), &data.join("standby.signal")] {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
        if nix::unistd::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        let guard = command
            .env("LC_ALL", "C")
            .current_dir(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let standby = Standby {
            dir: dir.to_owned(),
            primary_url: primary.url(),
            guard,
        };
        wait_until("the standby to answer", AT_MOST, || {
            let log = fs::read_to_string(dir.join("log")).unwrap();
            assert!(!log.contains("database system is shut down"), "{log}");
            Database::try_connect(&standby.url_of("postgres@/postgres")).is_some()
        });
        standby
    }

    /// The URL of a database: `user@/database`.
    pub fn url_of(&self, place: &str) -> String {
        format!("postgresql://{place}?host={}", self.dir.display())
    }

    /// Returns when all that the primary has committed by now can be seen here.
    pub fn catch_up(&self) {
        let written = Database::connect(&self.primary_url).value("select pg_current_wal_flush_lsn()");
        let here = Database::connect(&self.url_of("postgres@/postgres"));
        wait_until("the standby to catch up", AT_MOST, || {
            here.is(&format!("pg_last_wal_replay_lsn() >= '{written}'"))
        });
    }
}

fn back_up(primary: &TestServer, data: &Path) {
    let session = Database::connect(&primary.url());
    // renamed in PostgreSQL 15, which also has exclusive backups no more
    let is_old = session.is("current_setting('server_version_num')::int < 150000");
    session.exec(match is_old {
        true => "select pg_start_backup('standby', true, false)",
        false => "select pg_backup_start('standby', true)",
    });
    let copied = Command::new("cp")
        .arg("-a")
        .arg(primary.server.data_dir())
        .arg(data)
        .status();
    assert!(copied.unwrap().success(), "the data directory was not copied");
    let label = session.value(match is_old {
        true => "select labelfile from pg_stop_backup(false, false)",
        false => "select labelfile from pg_backup_stop(false)",
    });
    // the log is streamed from its beginning; slots stay with the primary
    fs::remove_file(data.join("postmaster.pid")).unwrap();
    for below in ["pg_wal", "pg_replslot"] {
        for entry in fs::read_dir(data.join(below)).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if below == "pg_wal" => {}
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
    }
    for (name, text) in [("backup_label", label.as_str()), ("standby.signal", "")] {
        fs::write(data.join(name), text).unwrap();
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
