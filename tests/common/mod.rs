//! What the integration tests share: a place where nothing of the developer's is seen, the real binary run there, a
//! PostgreSQL of the test's own, and waiting for a condition.
//!
//! The tests find PostgreSQL as the tool does. To test another one, name its directory in `DB_RACE_TEST_PG_BIN`.

#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses its own part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]
#![allow(
    unreachable_pub,
    reason = "the lint takes a shared module of tests for a private one"
)]

pub mod database;
pub mod processes;
pub mod run;
pub mod standby;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use db_race::postgres::server::{Options, Server, ServerError};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use database::Database;
use processes::postgres_in;
use run::{Run, Running};

/// A directory with files of the test, and a TMPDIR in it for the tool, in which all that it leaves behind is seen.
///
/// It lies below `/tmp` because a socket's path may have some 100 bytes only.
pub struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox::below(Path::new("/tmp"))
    }

    /// In memory where there is room: for tests that make hundreds of databases, which are a thousand files each.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    pub fn in_memory() -> Sandbox {
        let shm = Path::new("/dev/shm");
        #[allow(clippy::unnecessary_cast, reason = "macOS has other types here")]
        let is_roomy = nix::sys::statvfs::statvfs(shm)
            .is_ok_and(|it| it.blocks_available() as u64 * it.fragment_size() as u64 >= 2 << 30);
        Sandbox::below(if is_roomy { shm } else { Path::new("/tmp") })
    }

    fn below(parent: &Path) -> Sandbox {
        let dir = tempfile::Builder::new().prefix("dbr-").tempdir_in(parent).unwrap();
        let sandbox = Sandbox { dir };
        for (path, name) in [
            (sandbox.dir(), ""),
            (&sandbox.temp_dir(), "tmp"),
            (&sandbox.server_dir(), "srv"),
        ] {
            if !name.is_empty() {
                fs::create_dir(path).unwrap();
            }
            // root's servers run as another user
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        sandbox
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The tool's TMPDIR.
    pub fn temp_dir(&self) -> PathBuf {
        self.dir().join("tmp")
    }

    fn server_dir(&self) -> PathBuf {
        self.dir().join("srv")
    }

    /// Writes a file, below folders that it makes, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }

    /// The tool, with words that hold no spaces.
    pub fn command(&self, words: &str) -> Command {
        self.command_of(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// The tool, in a world in which the developer's settings don't exist.
    pub fn command_of(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_db-race"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let is_setting = ["PG", "CLICOLOR", "RUST_", "GITHUB_"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            if is_setting || ["DATABASE_URL", "DB_RACE_PG_BIN", "NO_COLOR"].contains(&&*name) {
                command.env_remove(&*name);
            }
        }
        if let Some(dir) = pg_bin() {
            command.env("DB_RACE_PG_BIN", dir);
        }
        // the tests' own servers know one role only, unless a test makes another
        command
            .args(words)
            .env("DB_RACE_ALLOW_SUPERUSER", "1")
            .env("TMPDIR", self.temp_dir())
            .current_dir(self.dir());
        command
    }

    /// Runs the tool to its end, and sees to what holds for every run: it doesn't panic and leaves nothing behind.
    #[track_caller]
    pub fn run(&self, words: &str) -> Run {
        self.run_command(self.command(words))
    }

    #[track_caller]
    pub fn run_command(&self, command: Command) -> Run {
        let run = Running::start(command).wait();
        self.assert_nothing_left();
        run
    }

    /// Starts the tool.
    pub fn start(&self, words: &str) -> Running {
        Running::start(self.command(words))
    }

    /// Run directories in the tool's TMPDIR.
    pub fn run_dirs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.temp_dir()).unwrap();
        let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        dirs.retain(|dir| dir.file_name().unwrap().to_string_lossy().starts_with("db-race-"));
        dirs.sort();
        dirs
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let none: Vec<PathBuf> = Vec::new();
        assert_eq!(self.run_dirs(), none, "run directories were left behind");
        assert_eq!(
            postgres_in(&self.temp_dir()),
            [0; 0],
            "postgres processes were left behind"
        );
    }

    /// A PostgreSQL of the test's own, in which a run can leave nothing but data.
    pub fn server(&self) -> TestServer {
        self.server_with(Options::default())
    }

    /// One that listens on a port of 127.0.0.1 as well.
    pub fn listening_server(&self, options: Options) -> TestServer {
        // a port that is free now may be somebody's when the server takes it
        (0..5)
            .find_map(|_| {
                let port = free_port();
                let mut options = options.clone();
                for (name, value) in [("listen_addresses", "127.0.0.1"), ("port", &port.to_string())] {
                    options.settings.push((name.into(), value.into()));
                }
                self.try_server_with(options).ok()
            })
            .expect("a server that listens")
    }

    pub fn server_with(&self, options: Options) -> TestServer {
        self.try_server_with(options).unwrap()
    }

    fn try_server_with(&self, options: Options) -> Result<TestServer, ServerError> {
        let runtime = runtime();
        let options = Options {
            bin_dir: pg_bin(),
            temp_dir: Some(self.server_dir()),
            ..options
        };
        let server = runtime.block_on(Server::start(&options))?;
        let database = Database::connect(&server.url());
        Ok(TestServer { database, server })
    }
}

/// A port of 127.0.0.1 on which nobody listens.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server, with a connection to its database `postgres`.
pub struct TestServer {
    database: Database,
    server: Server,
}

impl TestServer {
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn port(&self) -> u16 {
        self.server.config().get_ports()[0]
    }

    pub fn data_dir(&self) -> PathBuf {
        self.server.data_dir()
    }

    /// The directory of its socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.value("show unix_socket_directories").into()
    }

    /// The user and the group that it runs as.
    pub fn account(&self) -> (u32, u32) {
        let meta = fs::metadata(self.data_dir()).unwrap();
        (meta.uid(), meta.gid())
    }

    /// psql, beside which are the other programs of the server's version.
    pub fn psql_path(&self) -> PathBuf {
        let command = self.server.psql();
        PathBuf::from(command.split_whitespace().next().unwrap())
    }

    /// The URL of another database, or user: `user@/database`.
    pub fn url_of(&self, place: &str) -> String {
        self.url().replace("postgres@/postgres", place)
    }
}

impl std::ops::Deref for TestServer {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

fn pg_bin() -> Option<PathBuf> {
    std::env::var_os("DB_RACE_TEST_PG_BIN").map(PathBuf::from)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The server that a run has started, reached through its socket.
pub fn connect_to_run(run_dir: &Path) -> Option<Database> {
    Database::try_connect(&format!("postgresql://postgres@/postgres?host={}", run_dir.display()))
}

/// Waits for a condition that must come true.
#[track_caller]
pub fn wait_until(what: &str, at_most: Duration, mut is_so: impl FnMut() -> bool) {
    wait_for(what, at_most, || is_so().then_some(()));
}

/// Waits for a value that must come.
#[track_caller]
pub fn wait_for<T>(what: &str, at_most: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {at_most:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to a process that this test has started.
pub fn signal(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// The project's files.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
