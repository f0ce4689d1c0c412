//! What of the process and its machine settings are read from.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

/// Where the packages of systems put `pg_service.conf` (`pg_config --sysconfdir`).
const SYSTEM_DIRECTORIES: [&str; 6] = [
    "/etc/postgresql-common",
    "/etc/sysconfig/pgsql",
    "/etc/postgresql",
    "/opt/homebrew/etc/postgresql",
    "/usr/local/etc/postgresql",
    "/usr/local/pgsql/etc",
];

/// Where the packages of systems put the server's socket: Debian's and Red Hat's, PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Environment variables, the user and his home.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub variables: HashMap<String, String>,
    pub home: Option<PathBuf>,
    /// The operating system's name of the user.
    pub user: Option<String>,
    pub system_directories: Vec<PathBuf>,
    pub socket_directories: Vec<PathBuf>,
}

impl World {
    /// Of this process.
    pub(super) fn of_process() -> World {
        let variables: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let user = User::from_uid(geteuid()).ok().flatten();
        let home = variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let system_directories = match variables.get("PGSYSCONFDIR") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => SYSTEM_DIRECTORIES.map(PathBuf::from).to_vec(),
        };
        World {
            variables,
            home: home.or_else(|| user.as_ref().map(|user| user.dir.clone())),
            user: user.map(|user| user.name),
            system_directories,
            socket_directories: SOCKET_DIRECTORIES.map(PathBuf::from).to_vec(),
        }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A file below the home directory.
    pub(super) fn at_home(&self, name: &str) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(name))
    }

    /// Where a server's socket is when nobody says so: where there is one for the port, else where one would be.
    pub(super) fn socket_directory(&self, port: u16) -> Option<PathBuf> {
        let here = |dir: &&PathBuf| dir.join(socket_name(port)).exists();
        let dirs = &self.socket_directories;
        let found = dirs.iter().find(here).or_else(|| dirs.iter().find(|dir| dir.is_dir()));
        found.cloned()
    }
}

/// The name of a server's socket in its directory.
pub(in crate::postgres) fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// A text file; what isn't UTF-8 in it matches nothing.
pub(super) fn read(path: &Path) -> Result<String, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
