//! How racing sessions are connected: by tokio-postgres, on a stream that their [`Direct`](super::direct::Direct) can take over.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

use super::Notices;
use super::direct::{Line, WeakLine};
use super::socket::{self, Socket};

/// Connects for a pool, and remembers the streams.
#[derive(Clone, Default)]
pub(super) struct Connector {
    notices: Notices,
    /// By the server's process.
    lines: Arc<Mutex<HashMap<i32, WeakLine>>>,
}

impl Connector {
    pub(super) fn new(notices: &Notices) -> Connector {
        Connector {
            notices: notices.clone(),
            lines: Arc::default(),
        }
    }

    pub(super) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// The stream of a connection; each is given once.
    pub(super) fn line(&self, pid: i32) -> WeakLine {
        lock(&self.lines).remove(&pid).unwrap_or_default()
    }

    async fn connect(self, config: Config) -> Result<(Client, JoinHandle<()>), Error> {
        let (tell, pid) = oneshot::channel();
        let Some(line) = stream(&config).await else {
            // what is wrong is told here; if it was only for a moment, the session finds no stream and asks again
            let (client, connection) = config.connect(NoTls).await?;
            return Ok((client, tokio::spawn(async move { drop(connection.await) })));
        };
        let weak = line.downgrade();
        let (client, connection) = config.connect_raw(line, NoTls).await?;
        let task = tokio::spawn(self.notices.clone().listen(connection, pid));
        if let Some(sql) = self.notices.settings() {
            // without it the race is the same, and less is known of it
            let _ = client.batch_execute(&sql).await;
        }
        for message in client.simple_query("select pg_catalog.pg_backend_pid()").await? {
            if let SimpleQueryMessage::Row(row) = message
                && let Some(Ok(pid)) = row.get(0).map(str::parse)
            {
                // fails only when the task has ended, and the next statement will say so
                let _ = tell.send(pid);
                lock(&self.lines).insert(pid, weak);
                break;
            }
        }
        Ok((client, task))
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(self.clone().connect(config.clone()))
    }
}

/// A stream to the first host that answers.
async fn stream(config: &Config) -> Option<Line> {
    if let Some(path) = socket::path(config) {
        return Some(Line::new(Socket::connect(&path).await.ok()?));
    }
    for (i, host) in config.get_hosts().iter().enumerate() {
        let ports = config.get_ports();
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        let Host::Tcp(name) = host else { continue };
        let address = config.get_hostaddrs().get(i).map_or(name.clone(), ToString::to_string);
        let connected = TcpStream::connect((address, port));
        let limit = config.get_connect_timeout().copied().unwrap_or(Duration::MAX);
        if let Ok(Ok(stream)) = tokio::time::timeout(limit, connected).await {
            // each statement is one write, and waits for its answer
            let _ = stream.set_nodelay(true);
            return Some(Line::new(stream));
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
