//! The postmaster's command line, and the wait until it answers.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use super::account::Account;
use super::binaries::Binaries;
use super::instance::Instance;
use super::run_dir::RunDir;
use super::{DATABASE, Options, PORT, ServerError, USER};

/// How long a session waits for a lock before it looks for a deadlock.
///
/// A race that deadlocks costs this much a cycle, so the default of 1 s would make a thorough run
/// crawl. Shorter than this, and a cycle would be gone before the observer of lock waits has seen
/// all of it; it looks twice in this time.
const DEADLOCK_TIMEOUT: &str = "200ms";

const READY_AT_MOST: Duration = Duration::from_secs(30);
const READY_PAUSE: Duration = Duration::from_millis(2);
/// A server that is just coming up answers at once or not at all.
const CONNECT_AT_MOST: Duration = Duration::from_secs(5);

/// The line of `postmaster.pid` that says how far the server is.
const STATUS_LINE: usize = 7;

/// A program of the server, run by its user, and not disturbed by our terminal, directory or
/// environment.
pub(super) fn quiet(program: &Path, account: &Account, dir: &RunDir) -> Command {
    let mut command = Command::new(program);
    account.run(&mut command);
    // Our directory may be closed to the user that the server runs as.
    command.current_dir(dir.path());
    command.stdin(Stdio::null());
    // Ctrl-C in the terminal is for us; we decide when the server ends.
    command.process_group(0);
    // PGPORT, PGDATESTYLE and others would become settings of the server.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// The postmaster in the foreground, on a socket in the run directory.
pub(super) fn command(binaries: &Binaries, account: &Account, dir: &RunDir, options: &Options) -> Command {
    let mut command = quiet(&binaries.dir.join("postgres"), account, dir);
    // The guard knows the server by this beginning.
    command.arg("-D").arg(dir.data());
    for (name, value) in settings(dir, options) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
}

fn settings(dir: &RunDir, options: &Options) -> Vec<(String, String)> {
    let own: [(&str, String); 17] = [
        // Reached through the run directory only.
        ("listen_addresses", String::new()),
        ("unix_socket_directories", dir.socket_dir().display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("port", PORT.to_string()),
        ("max_connections", options.max_connections.to_string()),
        // Nobody reads this data after a crash. COMMIT itself goes its usual way.
        ("fsync", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        // Nothing happens by itself in the middle of a race: no vacuum, no checkpoint, no
        // compiling.
        ("autovacuum", "off".to_owned()),
        ("checkpoint_timeout", "1h".to_owned()),
        ("max_wal_size", "1GB".to_owned()),
        ("jit", "off".to_owned()),
        ("deadlock_timeout", DEADLOCK_TIMEOUT.to_owned()),
        // The same on every machine.
        ("lc_messages", "C".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        // Not by way of a collector, which would keep the last lines of a failed start from us.
        ("logging_collector", "off".to_owned()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    // The last one of a name wins.
    own.chain(options.settings.iter().cloned()).collect()
}

/// Returns when a session can be opened.
pub(super) async fn wait_until_ready(instance: &mut Instance, port: u16) -> Result<(), ServerError> {
    let deadline = Instant::now() + READY_AT_MOST;
    let mut last_error = None;
    while Instant::now() < deadline {
        if let Some(status) = instance.postmaster_status() {
            let log = instance.dir().log_tail();
            return Err(ServerError::Exited { status, log });
        }
        // Asking the file first spares the server sessions that it would have to refuse, and the
        // log their complaints.
        if says_ready(instance.dir()) {
            match timeout(CONNECT_AT_MOST, connect(instance.dir(), port)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => last_error = Some(error),
                Err(_) => {}
            }
        }
        sleep(READY_PAUSE).await;
    }
    Err(ServerError::NotReady {
        seconds: READY_AT_MOST.as_secs(),
        last_error,
        log: instance.dir().log_tail(),
    })
}

fn says_ready(dir: &RunDir) -> bool {
    let file = fs::read_to_string(dir.data().join("postmaster.pid")).unwrap_or_default();
    file.lines()
        .nth(STATUS_LINE)
        .is_some_and(|status| status.trim() == "ready")
}

async fn connect(dir: &RunDir, port: u16) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .user(USER)
        .dbname(DATABASE)
        .host_path(dir.socket_dir())
        .port(port)
        .connect(NoTls)
        .await?;
    drop(client);
    // With no client left, the connection says goodbye and ends.
    connection.await
}
