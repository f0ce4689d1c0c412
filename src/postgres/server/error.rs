//! What can go wrong with a throwaway server, and what to do about it.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why there is no throwaway server, or why it could not be cleared away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No place has usable server binaries.
    #[error("no PostgreSQL server found{}\n{INSTALL}", no_binaries(looked_in, passed_over))]
    NoBinaries {
        /// The places, as a person would write them.
        looked_in: Vec<String>,
        /// Places with binaries that are of no use, and why.
        passed_over: Vec<(PathBuf, String)>,
    },

    /// The directory that was asked for has no usable server binaries.
    #[error(
        "no usable PostgreSQL server in {}: {reason}\n\
         give the directory that holds `initdb` and `postgres` (as `pg_config --bindir` shows it)",
        dir.display()
    )]
    BadBinaries {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Started by root, and there is no other user to run the server as.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as\n\
         create one (`useradd --system postgres`), or run this as an ordinary user"
    )]
    NoAccount,

    /// The system refused something.
    #[error("could not {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// `initdb` failed.
    #[error("initdb could not make a data directory ({status})\n{}", indented(log))]
    Initdb {
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },

    /// The server ended while it was starting.
    #[error(
        "the throwaway server ended while starting ({status}); the end of its log:\n{}",
        indented(log)
    )]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },

    /// The server runs, but does not answer.
    #[error(
        "the throwaway server did not answer within {seconds} s{}; the end of its log:\n{}",
        last_answer(last_error),
        indented(log)
    )]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// What the last attempt to connect was told.
        last_error: Option<tokio_postgres::Error>,
        /// The last lines of its log.
        log: String,
    },

    /// The run was over before the server was up.
    #[error("the throwaway server's start or stop was interrupted")]
    Interrupted,
}

impl ServerError {
    /// For `map_err`: what was being done to which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerError {
        let path = path.to_owned();
        move |source| ServerError::Io { action, path, source }
    }
}

const INSTALL: &str = "install one:\n  \
    Debian, Ubuntu:  apt-get install postgresql\n  \
    Fedora, RHEL:    dnf install postgresql-server\n  \
    macOS:           brew install postgresql@17\n\
    or name the directory that holds `initdb` and `postgres` in DB_RACE_PG_BIN";

fn no_binaries(looked_in: &[String], passed_over: &[(PathBuf, String)]) -> String {
    let mut text = String::from("\nlooked for `initdb` and `postgres` in:");
    for place in looked_in {
        let _ = write!(text, "\n  {place}");
    }
    if !passed_over.is_empty() {
        text.push_str("\npassed over:");
        for (dir, reason) in passed_over {
            let _ = write!(text, "\n  {}: {reason}", dir.display());
        }
    }
    text
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nmake room there, or set TMPDIR to a directory with more"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::Unsupported => {
            "\nset TMPDIR to a local directory that every user may enter and you may write to"
        }
        _ => "",
    }
}

fn last_answer(error: &Option<tokio_postgres::Error>) -> String {
    error.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
}

fn indented(log: &str) -> String {
    if log.trim().is_empty() {
        return "  (nothing)".to_owned();
    }
    log.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
