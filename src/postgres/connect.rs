//! One connection, with the name it goes by in messages (never the password).

use std::ops::Deref;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// Longer than a slow network needs, shorter than a person's patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A database, and the connection settings that reach it.
#[derive(Clone, Debug)]
pub struct Target {
    config: Config,
    is_ours: bool,
}

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string can't be read.
    #[error("the connection string is wrong: {0}; expected like postgresql://user@host:5432/database")]
    Settings(String),
    /// The server didn't let us in, or isn't there.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Host, port, user and database.
        address: String,
        /// The server's or the system's reason, and what to do.
        why: String,
    },
}

impl Target {
    /// From a URL or a `key=value` connection string.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when it can't be read. The message doesn't repeat it: it may hold a password.
    pub fn parse(url: &str) -> Result<Target, ConnectError> {
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let mut why = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                why = source.to_string();
            }
            ConnectError::Settings(why)
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConnectError::Settings("it names no host".into()));
        }
        Ok(Target::new(config))
    }

    /// From settings.
    pub fn new(mut config: Config) -> Target {
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        Target { config, is_ours: false }
    }

    /// A server that was started for this run, and that may be held up as a whole.
    #[must_use]
    pub fn ours(self) -> Target {
        Target { is_ours: true, ..self }
    }

    /// Whether the server was started for this run.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The settings, under the name that the connection has in `pg_stat_activity`.
    pub fn config(&self, role: &str) -> Config {
        let mut config = self.config.clone();
        config.application_name(format!("db-race/{role}"));
        config
    }

    /// The same server, another database.
    #[must_use]
    pub fn database(&self, name: &str) -> Target {
        let mut config = self.config.clone();
        config.dbname(name);
        Target { config, ..*self }
    }

    /// `user@host:port/database`, for messages.
    pub fn address(&self) -> String {
        let host = match (self.config.get_hosts().first(), self.config.get_hostaddrs().first()) {
            (Some(Host::Tcp(host)), _) => host.clone(),
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => path.display().to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "localhost".into(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or(user);
        format!("{user}@{host}:{port}/{database}")
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError::Connect`] with the server's reason.
    pub async fn connect(&self, role: &str) -> Result<Connection, ConnectError> {
        let (client, connection) = self
            .config(role)
            .connect(NoTls)
            .await
            .map_err(|error| self.error(&error))?;
        // an error also ends every query in flight, and is reported there
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { client })
    }

    /// What to say of a failed connection.
    pub fn error(&self, error: &tokio_postgres::Error) -> ConnectError {
        let mut why = explain(error);
        let code = error.code().map_or("", |c| c.code());
        why.push_str(match code {
            "28P01" | "28000" => "; check the user and the password",
            "3D000" => "; check the database name",
            "53300" => "; free some of the server's connections, or raise max_connections",
            "" => "; check that the server runs, and the host and port",
            _ => "",
        });
        ConnectError::Connect {
            address: self.address(),
            why,
        }
    }
}

/// A connection; its other half runs in the background until this is dropped.
#[derive(Debug)]
pub struct Connection {
    client: Client,
}

impl Connection {
    /// The server's process behind this connection.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn pid(&self) -> Result<i32, tokio_postgres::Error> {
        Ok(self.client.query_one("select pg_backend_pid()", &[]).await?.get(0))
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Whether the error means that the connection is gone, so that nobody knows what became of the statement.
pub fn lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.as_db_error().is_none() && has_io_source(error)
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>())
}

/// An error in one line: the server's message with its SQLSTATE, or the chain of causes.
pub fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        for extra in [db.detail(), db.hint()].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(extra);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
