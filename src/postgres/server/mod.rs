//! The throwaway server: a private PostgreSQL for one run, gone afterwards whatever happens.
//!
//! # Life cycle
//!
//! ```text
//! sweep ──> find binaries ──> run directory ──> guard ──> data ──> postmaster ──> ready
//!                              made, locked     posted    copied   our child        │
//!                                                                                   │
//! guard dismissed <── run directory removed <── postmaster ended <──────────────────┘
//! ```
//!
//! 1. Leftovers of runs whose process died with its guard are swept away (`sweep.rs`).
//! 2. `initdb` and `postgres` are found (`binaries.rs`).
//! 3. A directory `db-race-<pid>-<random>` is made, and locked for as long as this process lives
//!    (`run_dir.rs`). It holds everything: data, socket and log.
//! 4. A guard is posted: a shell that waits for this process to die, and then ends the server and
//!    removes the directory (`guard.rs`).
//! 5. The data directory is copied from a template, which `initdb` has made once (`data.rs`,
//!    `template.rs`).
//! 6. The postmaster is started, a child in the foreground, and asked until it answers
//!    (`postmaster.rs`).
//! 7. [`Server::stop`], or dropping the [`Server`], goes the same way back (`instance.rs`). The
//!    data directory may be kept, as good as new, for the next start.
//!
//! # Who cleans up
//!
//! | how this process ends | who clears away |
//! |---|---|
//! | normal end, error, panic | the destructor of [`Server`] |
//! | Ctrl-C or SIGTERM, made into a drop by the caller | the destructor of [`Server`] |
//! | `kill -9`, `process::exit`, a signal that nobody handles | the guard, at once |
//! | `kill -9` of the guard too, power failure | the sweep of the next start |
//!
//! No step waits without a bound. Guard and sweep find their work from the run directory alone, so
//! doing it twice does no harm.
//!
//! The server listens on a unix socket in its directory only, which nobody else may enter, so it
//! asks for no password. PostgreSQL refuses to run as root; then it runs as an unprivileged user
//! (`account.rs`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod account;
mod address;
mod binaries;
mod cache;
mod child;
mod copy;
mod data;
mod error;
mod guard;
mod instance;
mod postmaster;
mod run_dir;
mod sweep;
mod template;

use account::Account;
use binaries::Binaries;
use instance::Instance;
use run_dir::RunDir;
use template::Template;

pub use data::DataSource;
pub use error::ServerError;

/// The database superuser of the server.
const USER: &str = "postgres";
/// The database that every new server has.
const DATABASE: &str = "postgres";
/// The port is a part of the socket's name only; nothing listens on it unless the settings say so.
const PORT: u16 = 5432;

/// What to ask of a throwaway server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `initdb` and `postgres` are. When it is given, no other place is tried.
    pub bin_dir: Option<PathBuf>,
    /// How many sessions may be connected at once.
    pub max_connections: u32,
    /// More settings, as in `postgresql.conf`; they win over those that this module makes.
    pub settings: Vec<(String, String)>,
    /// Where the run directory is made, instead of the directory for temporary files. It must be
    /// short enough for a socket, and the user that the server runs as must be able to reach it;
    /// `/tmp` is used otherwise.
    pub temp_dir: Option<PathBuf>,
    /// Where templates are kept, instead of `$DB_RACE_CACHE`, or `db-race` in the user's cache
    /// directory.
    pub cache_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bin_dir: None,
            max_connections: 100,
            settings: Vec::new(),
            temp_dir: None,
            cache_dir: None,
        }
    }
}

impl Options {
    /// The port that the server will have.
    fn port(&self) -> u16 {
        let named = self.settings.iter().rev().find(|(name, _)| name == "port");
        named.and_then(|(_, port)| port.parse().ok()).unwrap_or(PORT)
    }
}

/// How long the parts of a start took.
#[derive(Clone, Copy, Debug)]
pub struct StartTimes {
    /// Sweeping, finding the binaries, making the run directory and posting the guard.
    pub prepare: Duration,
    /// Making the data directory.
    pub data: Duration,
    /// Where the data directory came from.
    pub data_source: DataSource,
    /// From the start of the postmaster to the first connection.
    pub ready: Duration,
}

/// A running throwaway server. Dropping it ends the server and removes all that was made for it.
#[derive(Debug)]
pub struct Server {
    instance: Instance,
    binaries: Binaries,
    postmaster_pid: u32,
    port: u16,
    times: StartTimes,
}

impl Server {
    /// Starts a server of its own, and returns when it answers.
    ///
    /// The start may be abandoned by dropping the future; what it has made until then is removed.
    ///
    /// # Errors
    ///
    /// When there are no binaries, a directory cannot be made, or the server does not come up.
    /// Nothing is left behind.
    pub async fn start(options: &Options) -> Result<Server, ServerError> {
        let owned = options.clone();
        let mut prepared = blocking(move || prepare(&owned)).await?;

        let began = Instant::now();
        let command = postmaster::command(&prepared.binaries, &prepared.account, prepared.instance.dir(), options);
        let postmaster_pid = prepared.instance.start_postmaster(command)?;

        if let Err(error) = postmaster::wait_until_ready(&mut prepared.instance, options.port()).await {
            // If it was the template's fault, the next start must not meet it again.
            if prepared.data_source != DataSource::Initdb {
                prepared.template.discard();
            }
            return Err(error);
        }

        prepared.instance.bequeath_data(prepared.template);
        Ok(Server {
            instance: prepared.instance,
            binaries: prepared.binaries,
            postmaster_pid,
            port: options.port(),
            times: StartTimes {
                prepare: prepared.prepare,
                data: prepared.data,
                data_source: prepared.data_source,
                ready: began.elapsed(),
            },
        })
    }

    /// How to connect with `tokio-postgres`: as the superuser, to the database `postgres`.
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .user(USER)
            .dbname(DATABASE)
            .host_path(self.instance.dir().socket_dir())
            .port(self.port);
        config
    }

    /// The connection string, as `psql` and other clients take it.
    pub fn url(&self) -> String {
        address::url(self.instance.dir().socket_dir(), self.port)
    }

    /// The shell command that opens `psql` on this server.
    pub fn psql(&self) -> String {
        address::psql(&self.binaries.dir, &self.url())
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.instance.dir().data()
    }

    /// The run directory: all that the server has on disk.
    pub fn dir(&self) -> &Path {
        self.instance.dir().path()
    }

    /// The server's version, such as `17.2`.
    pub fn version(&self) -> &str {
        &self.binaries.version
    }

    /// Where the binaries of this server are.
    pub fn bin_dir(&self) -> &Path {
        &self.binaries.dir
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster_pid
    }

    /// How long the parts of the start took.
    pub fn start_times(&self) -> StartTimes {
        self.times
    }

    /// The last lines of the server's log, for error messages.
    pub fn log_tail(&self) -> String {
        self.instance.dir().log_tail()
    }

    /// Ends the server and removes its directory. Dropping does the same, but cannot tell when it
    /// fails.
    ///
    /// The server is not asked to write a last checkpoint: nobody will read its data again.
    /// Sessions that are still connected are ended.
    ///
    /// # Errors
    ///
    /// When the directory cannot be removed; the next start tries again.
    pub async fn stop(self) -> Result<(), ServerError> {
        let mut instance = self.instance;
        blocking(move || instance.end()).await
    }
}

/// What is ready when the postmaster can be started. Dropped, it removes itself.
struct Prepared {
    binaries: Binaries,
    account: Account,
    instance: Instance,
    template: Template,
    prepare: Duration,
    data: Duration,
    data_source: DataSource,
}

/// Everything before the postmaster: it waits for files and short-lived processes only.
fn prepare(options: &Options) -> Result<Prepared, ServerError> {
    let began = Instant::now();
    let binaries = binaries::find(options.bin_dir.as_deref())?;
    let account = Account::choose()?;
    let base = run_dir::base(options.temp_dir.as_deref(), &account);
    sweep::sweep(&base, &account);
    let instance = Instance::new(RunDir::make(&base)?)?;
    let prepare = began.elapsed();

    let began = Instant::now();
    let template = Template::new(options.cache_dir.as_deref(), &binaries, account);
    let data_source = data::make(&template, &binaries, &account, instance.dir())?;
    Ok(Prepared {
        binaries,
        account,
        instance,
        template,
        prepare,
        data: began.elapsed(),
        data_source,
    })
}

/// Runs work that blocks beside the caller's runtime, so that Ctrl-C is still heard.
///
/// When the caller goes away first, the work ends on its own thread and its result is dropped
/// there, which cleans up.
async fn blocking<T, F>(work: F) -> Result<T, ServerError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ServerError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ServerError::Interrupted),
        },
    }
}
