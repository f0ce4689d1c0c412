//! The pool that racing sessions draw their connections from.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, ObjectId, RecyclingMethod, Runtime, Timeouts};

use super::{ConnectError, Notices, Target, explain};

/// A deadpool-postgres pool that also knows the server's process behind each connection.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
    target: Target,
    /// tokio-postgres keeps the process id to itself, so it is asked for once a connection.
    pids: Arc<Mutex<HashMap<ObjectId, i32>>>,
}

/// A connection on loan; it goes back to the pool when dropped.
#[derive(Debug)]
pub struct Lease {
    client: Object,
    /// The server's process behind it.
    pub pid: i32,
}

/// Why a session got no connection.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// All connections were on loan for too long.
    #[error("no connection was free within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// A new connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Pool {
    /// A pool of `size` connections that waits up to `wait` for one. What its servers say aside goes to `notices`.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when deadpool refuses the settings.
    pub fn new(target: &Target, size: u32, wait: Duration, notices: &Notices) -> Result<Pool, ConnectError> {
        let manager = Manager::from_connect(
            target.config("session"),
            notices.clone(),
            ManagerConfig {
                // a dead connection is noticed when it is used; asking it first would add a round trip to each attempt
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(size as usize)
            .timeouts(Timeouts {
                wait: Some(wait),
                create: Some(wait),
                recycle: Some(wait),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| ConnectError::Settings(error.to_string()))?;
        Ok(Pool {
            pool,
            target: target.clone(),
            pids: Arc::default(),
        })
    }

    /// Connections the pool may hold.
    pub fn capacity(&self) -> usize {
        self.pool.status().max_size
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// [`AcquireError`] when none was free in time, or a new one failed.
    pub async fn acquire(&self) -> Result<Lease, AcquireError> {
        use deadpool_postgres::PoolError;
        let client = self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(_) => AcquireError::Timeout(self.pool.timeouts().wait.unwrap_or_default()),
            PoolError::Backend(error) => self.target.error(&error).into(),
            other => ConnectError::Connect {
                address: self.target.address(),
                why: other.to_string(),
            }
            .into(),
        })?;
        let pid = self.pid_of(&client).await?;
        Ok(Lease { client, pid })
    }

    async fn pid_of(&self, client: &Object) -> Result<i32, ConnectError> {
        let id = Object::id(client);
        let known = self
            .pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .copied();
        if let Some(pid) = known {
            return Ok(pid);
        }
        let row = client
            .query_one("select pg_backend_pid()", &[])
            .await
            .map_err(|error| ConnectError::Connect {
                address: self.target.address(),
                why: explain(&error),
            })?;
        let pid = row.get(0);
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(id, pid);
        Ok(pid)
    }

    /// Closes all connections that are not on loan; those on loan are closed when given back.
    pub fn close(&self) {
        self.pool.close();
    }
}

impl Lease {
    /// Ends the connection instead of giving it back: something on it may still be running.
    pub fn discard(self) {
        drop(Object::take(self.client));
    }
}

impl Deref for Lease {
    type Target = deadpool_postgres::ClientWrapper;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}
