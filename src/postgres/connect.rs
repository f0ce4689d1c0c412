//! One connection, with the name it goes by in messages (never the password).

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{CancelToken, Client, Config};

use super::dial::{Address, Dialer, Trouble};
use super::direct::{Handover, Line};
use super::reach::{Link, Route, Search, Spot};
use super::settings::{Asked, Settings};

/// A database, and the connection settings that reach it.
///
/// Where several servers are named, the first connection finds one, and all later ones go to that: a run that looked at
/// one server and wrote to another would prove nothing.
#[derive(Clone, Debug)]
pub struct Target {
    dialer: Arc<Dialer>,
    dbname: String,
    is_ours: bool,
    found: Arc<OnceLock<Route>>,
    /// Where the connections of another database's target went.
    near: Option<Spot>,
}

/// Why a server could not be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings can't be read, or contradict one another.
    #[error("{0}")]
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
    /// From a URI or a `key=value` connection string, completed as libpq does: by a service, `PG*` variables and the
    /// password file.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when it can't be read. The message doesn't repeat it: it may hold a password.
    pub fn parse(url: &str) -> Result<Target, ConnectError> {
        Target::asked(&Asked {
            string: Some(("the connection string", url.into())),
            ..Asked::default()
        })
    }

    /// From what the command line says, completed in the same way.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when something in it can't be read.
    pub fn asked(asked: &Asked) -> Result<Target, ConnectError> {
        let settings = asked.settings().map_err(ConnectError::Settings)?;
        Ok(Target::of(settings))
    }

    /// From settings that need no completion and no TLS: those of a server of our own.
    pub fn new(config: &Config) -> Target {
        Target::of(Settings::of_config(config))
    }

    fn of(settings: Settings) -> Target {
        Target {
            dbname: settings.dbname.clone(),
            dialer: Arc::new(Dialer::new(settings)),
            is_ours: false,
            found: Arc::default(),
            near: None,
        }
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

    /// What the user should know of the settings although it is no error.
    pub fn warnings(&self) -> &[String] {
        &self.dialer.settings.warnings
    }

    /// The same server, another database.
    #[must_use]
    pub fn database(&self, name: &str) -> Target {
        Target {
            dialer: Arc::clone(&self.dialer),
            dbname: name.into(),
            is_ours: self.is_ours,
            // TLS may be another matter there (pg_hba.conf)
            found: Arc::default(),
            near: self.spot().cloned(),
        }
    }

    fn spot(&self) -> Option<&Spot> {
        self.found.get().map(|route| &route.spot).or(self.near.as_ref())
    }

    /// Whether connections go over a unix socket, once one was made.
    pub(crate) fn is_unix(&self) -> bool {
        self.spot()
            .is_some_and(|spot| matches!(spot.address, Address::Socket(_)))
    }

    /// `user@host:port/database`, for messages.
    pub fn address(&self) -> String {
        let Settings { hosts, user, .. } = &self.dialer.settings;
        let hosts = match self.spot() {
            Some(spot) => &hosts[spot.host..=spot.host],
            None => hosts,
        };
        let hosts: Vec<String> = hosts
            .iter()
            .map(|host| format!("{}:{}", host.place.name(), host.port))
            .collect();
        format!("{user}@{}/{}", hosts.join(","), self.dbname)
    }

    /// Connects, under the name `db-race/<role>` in `pg_stat_activity`.
    ///
    /// # Errors
    /// [`ConnectError::Connect`] with the server's reason.
    pub async fn connect(&self, role: &str) -> Result<Connection, ConnectError> {
        let (client, link) = self.link(role).await.map_err(|trouble| self.trouble(&trouble))?;
        // an error also ends every query in flight, and is reported there
        tokio::spawn(async move { drop(link.await) });
        Ok(Connection {
            client,
            target: self.clone(),
        })
    }

    /// Connects; the link must be driven.
    pub(super) async fn link(&self, role: &str) -> Result<(Client, Link), Trouble> {
        let search = match (self.found.get(), &self.near) {
            (Some(route), _) => Search::Along(route.clone()),
            (None, Some(spot)) => Search::At(spot.clone()),
            (None, None) => Search::Everywhere,
        };
        let name = format!("db-race/{role}");
        let (client, link, route) = self.dialer.reach(&search, &self.dbname, &name).await?;
        // of several at once the first one counts for those to come
        let _ = self.found.set(route);
        Ok((client, link))
    }

    /// Asks the server to stop what runs on a connection. Whether or not that gets through, the statement's answer tells.
    pub(super) async fn cancel(&self, token: &CancelToken) {
        if let Some(route) = self.found.get()
            && let Ok(wire) = self.dialer.again(route).await
        {
            let _ = token.cancel_query_raw(Line::new(wire), Handover).await;
        }
    }

    /// What to say of a failed connection, as the pool gives it.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> ConnectError {
        let carried = std::error::Error::source(error).and_then(|source| source.downcast_ref::<ConnectError>());
        carried.cloned().unwrap_or_else(|| self.server_error(error))
    }

    /// What to say of a failed connection.
    pub(super) fn trouble(&self, trouble: &Trouble) -> ConnectError {
        let why = match trouble {
            Trouble::Settings(why) => return ConnectError::Settings(why.clone()),
            Trouble::Server(error) => return self.server_error(error),
            Trouble::Unreachable(why) => format!("{why}; check that the server runs, and the host and port"),
            Trouble::Unfit(why) => format!("{why} (target_session_attrs)"),
            Trouble::Tls(why) => why.clone(),
        };
        ConnectError::Connect {
            address: self.address(),
            why,
        }
    }

    fn server_error(&self, error: &tokio_postgres::Error) -> ConnectError {
        let settings = &self.dialer.settings;
        let mut why = explain(error);
        let code = error.code().map_or("", |c| c.code());
        if why.contains("password missing") {
            why = "the server asks for a password, and there is none: set PGPASSWORD, or use ~/.pgpass or a service"
                .into();
        } else {
            why.push_str(match code {
                "28P01" | "28000" => "; check the user and the password",
                "3D000" => "; check the database name",
                "53300" => "; free some of the server's connections, or raise max_connections",
                "08P01" if why.contains("startup parameter: options") => {
                    "; a pooler like PgBouncer takes no options (PGOPTIONS, PGTZ, PGDATESTYLE, PGGEQO): leave them out"
                }
                "" => "; check that the server runs, and the host and port",
                _ => "",
            });
        }
        if ["28P01", "28000"].contains(&code) {
            let files: Vec<&str> = settings
                .hosts
                .iter()
                .filter_map(|h| h.password_from.as_deref())
                .collect();
            if !files.is_empty() {
                why.push_str(&format!(" (the password is from {})", files.join(" and ")));
            }
        }
        ConnectError::Connect {
            address: self.address(),
            why,
        }
    }
}

impl Trouble {
    /// In one line.
    pub(super) fn why(&self) -> String {
        match self {
            Trouble::Unreachable(why) | Trouble::Unfit(why) | Trouble::Tls(why) | Trouble::Settings(why) => why.clone(),
            Trouble::Server(error) => explain(error),
        }
    }
}

/// An error of tokio-postgres that carries one of ours: pools know no others.
pub(super) async fn carried(error: ConnectError) -> tokio_postgres::Error {
    struct Refuse(ConnectError);
    impl TlsConnect<tokio::io::Empty> for Refuse {
        type Stream = Line;
        type Error = ConnectError;
        type Future = std::future::Ready<Result<Line, ConnectError>>;
        fn connect(self, _: tokio::io::Empty) -> Self::Future {
            std::future::ready(Err(self.0))
        }
    }
    let mut config = Config::new();
    config
        .ssl_mode(tokio_postgres::config::SslMode::Require)
        .ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
    match config.connect_raw(tokio::io::empty(), Refuse(error)).await {
        Err(error) => error,
        // a connector that refuses connects nobody
        Ok(_) => unreachable!(),
    }
}

/// A connection; its other half runs in the background until this is dropped.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    target: Target,
}

impl Connection {
    /// The server's process behind this connection. Behind a pooler it is that of the moment.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn pid(&self) -> Result<i32, tokio_postgres::Error> {
        super::simple::pid(&self.client).await
    }

    /// Asks the server to stop what runs, over TLS if the session has it. Whether or not the request gets through, the
    /// statement's answer tells.
    pub async fn cancel(&self) {
        self.target.cancel(&self.client.cancel_token()).await;
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
