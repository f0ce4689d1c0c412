//! Where a run takes place, and what is installed there.
//!
//! - Without connection settings: a throwaway server.
//! - A bundled system on a server of the user's: a database of its own there, dropped at the end. Nothing else is touched.
//! - No system: the user's database as it is.

use std::time::Duration;

use tokio_postgres::error::ErrorPosition;

use crate::postgres::server::{Options, Server, ServerError};
use crate::postgres::{ConnectError, Target, explain, interruptible};
use crate::scenario::Plan;
use crate::source::{FileError, Source, offset_of};
use crate::stop::Stop;
use crate::system::{Bug, System};

/// A database to run on. [`Place::leave`] it at the end.
#[derive(Debug)]
pub struct Place {
    /// How it is reached.
    pub target: Target,
    server: Option<Server>,
    /// A database made for this run, and how to reach its server without being in it.
    made: Option<(String, Target)>,
}

/// Why there is no place to run on.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The throwaway server didn't start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The user's server can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The database for this run could not be made.
    #[error(
        "cannot create the database {name} at {address}: {why}; the user needs CREATEDB to run a bundled system there"
    )]
    Create {
        /// Its name.
        name: String,
        /// The server.
        address: String,
        /// The server's reason.
        why: String,
    },
    /// A stop was asked for before it was ready.
    #[error("interrupted before there was a database to run on")]
    Interrupted,
    /// There is nothing to run on.
    #[error(
        "{0} names no system, so it needs a database: give --url, -h or -d, or set DATABASE_URL, PGSERVICE or PGHOST"
    )]
    NoDatabase(String),
    /// A file of the system is wrong, or the server refused it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server refused something in a file, and doesn't say where.
    #[error("{file}: {why}")]
    Refused {
        /// The file.
        file: String,
        /// The server's reason.
        why: String,
    },
    /// The connection was lost while installing.
    #[error("the connection was lost while installing {file}: {why}")]
    Lost {
        /// The file.
        file: String,
        /// The system's reason.
        why: String,
    },
}

/// Connections of a throwaway server beside those of the sessions.
const CONNECTIONS_BESIDE: u32 = 20;

impl Place {
    /// The place that a plan asks for, with its system and its bug installed: a throwaway server, a new database at `target`,
    /// or without a system the database at `target` as it is.
    ///
    /// # Errors
    /// [`PlaceError`]; nothing is left behind.
    pub async fn of(plan: &Plan, target: Option<Target>, options: &Options, stop: &Stop) -> Result<Place, PlaceError> {
        let Some(system) = &plan.system else {
            return match target {
                Some(target) => Ok(Place::existing(target)),
                None => Err(PlaceError::NoDatabase(plan.name.clone())),
            };
        };
        let place = match target {
            Some(target) => Place::new_database(target, &system.name, stop).await?,
            None => {
                let sessions = plan.connections_at_start() + CONNECTIONS_BESIDE;
                let options = Options {
                    max_connections: options.max_connections.max(sessions),
                    ..options.clone()
                };
                Place::throwaway(&options, stop).await?
            }
        };
        place.with(system, plan.bug.as_ref(), stop).await
    }

    /// The place with a system installed.
    ///
    /// # Errors
    /// [`PlaceError`]; then the place has been left.
    pub async fn with(self, system: &System, bug: Option<&Bug>, stop: &Stop) -> Result<Place, PlaceError> {
        match self.install(system, bug, stop).await {
            Ok(()) => Ok(self),
            Err(error) => {
                // the first error is the one to mend
                let _ = self.leave().await;
                Err(error)
            }
        }
    }

    /// Starts a throwaway server.
    ///
    /// # Errors
    /// [`PlaceError::Server`] when there are no server binaries or it doesn't start, [`PlaceError::Interrupted`].
    pub async fn throwaway(options: &Options, stop: &Stop) -> Result<Place, PlaceError> {
        let server = tokio::select! {
            server = Server::start(options) => server?,
            () = stop.requested() => return Err(PlaceError::Interrupted),
        };
        Ok(Place {
            target: Target::new(&server.config()).ours(),
            server: Some(server),
            made: None,
        })
    }

    /// The user's database as it is.
    pub fn existing(target: Target) -> Place {
        Place {
            target,
            server: None,
            made: None,
        }
    }

    /// A new database on the user's server.
    ///
    /// # Errors
    /// [`PlaceError::Create`] when the user may not create one, [`PlaceError::Interrupted`].
    pub async fn new_database(target: Target, system: &str, stop: &Stop) -> Result<Place, PlaceError> {
        use std::hash::{BuildHasher, RandomState};
        let word: String = system.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
        // letters, digits and underscores only: it needs no quoting
        let random = RandomState::new().hash_one(0u8) as u32;
        let name = format!("db_race_{}_{random:08x}", word.to_lowercase());
        let admin = tokio::select! {
            admin = target.connect("control") => admin?,
            () = stop.requested() => return Err(PlaceError::Interrupted),
        };
        let create = format!("create database {name}");
        let created = admin.batch_execute(&create);
        let created = interruptible(&admin, stop, Duration::ZERO, created).await;
        created.map_err(|error| PlaceError::Create {
            name: name.clone(),
            address: target.address(),
            why: explain(&error),
        })?;
        Ok(Place {
            target: target.database(&name),
            server: None,
            made: Some((name, target)),
        })
    }

    /// Whether the server was started for this run.
    pub fn is_throwaway(&self) -> bool {
        self.server.is_some()
    }

    /// Whether leaving it ends all that runs on it.
    pub fn is_made_for_the_run(&self) -> bool {
        self.server.is_some() || self.made.is_some()
    }

    /// The throwaway server.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Runs a system's files, then the bug's.
    async fn install(&self, system: &System, bug: Option<&Bug>, stop: &Stop) -> Result<(), PlaceError> {
        let client = self.target.connect("control").await?;
        for source in system.files.iter().chain(bug.map(|b| &b.source)) {
            if stop.is_requested() {
                return Err(PlaceError::Interrupted);
            }
            let done = interruptible(&client, stop, Duration::ZERO, client.batch_execute(&source.text)).await;
            done.map_err(|error| install_error(source, &error))?;
        }
        Ok(())
    }

    /// Stops the throwaway server, or drops the database that was made.
    ///
    /// # Errors
    /// When something was left behind, with what and where.
    pub async fn leave(self) -> Result<(), String> {
        if let Some((name, admin)) = self.made {
            let left = |why: String| format!("the database {name} at {} was left behind: {why}", admin.address());
            let client = admin.connect("control").await.map_err(|e| left(e.to_string()))?;
            let dropped = client
                .batch_execute(&format!("drop database {name} with (force)"))
                .await;
            dropped.map_err(|e| left(explain(&e)))?;
        }
        if let Some(server) = self.server {
            server.stop().await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn install_error(source: &Source, error: &tokio_postgres::Error) -> PlaceError {
    let Some(db) = error.as_db_error() else {
        return PlaceError::Lost {
            file: source.name.to_string(),
            why: explain(error),
        };
    };
    let Some(ErrorPosition::Original(at)) = db.position() else {
        return PlaceError::Refused {
            file: source.name.to_string(),
            why: explain(error),
        };
    };
    let offset = offset_of(&source.text, *at);
    let mut diagnostic = source
        .error(offset..offset + 1, db.message())
        .label(format!("SQLSTATE {}", db.code().code()));
    if let Some(more) = db.detail().or(db.hint()).or(db.where_()) {
        diagnostic = diagnostic.help(more);
    }
    PlaceError::File(diagnostic.into())
}
