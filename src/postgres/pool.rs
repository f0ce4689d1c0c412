//! The pool that racing sessions draw their connections from.

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, ObjectId, RecyclingMethod, Runtime, Timeouts};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, Statement};

use super::connect::carried;
use super::dial::Trouble;
use super::{Cancel, ConnectError, Notices, Target, explain, simple};

/// A deadpool-postgres pool that also knows each of its connections.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
    target: Target,
    /// Whether a connection loses its settings when it is given back.
    is_cleaned: bool,
    known: Arc<Mutex<HashMap<ObjectId, Arc<Known>>>>,
}

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections it may hold.
    pub size: u32,
    /// How long to wait for one.
    pub wait: Duration,
    /// How long making one may take.
    pub create: Duration,
    /// What is done to a connection before it is lent again.
    pub recycling: RecyclingMethod,
}

/// What is known of a connection.
#[derive(Debug)]
struct Known {
    /// tokio-postgres keeps the process id to itself, so it is asked for once a connection.
    pid: i32,
    /// By number: what was prepared on it.
    statements: Mutex<Vec<Option<Statement>>>,
    /// The number of the settings that it has; [`NO_SETTINGS`] at first.
    settings: AtomicUsize,
}

/// How long a connection may take that is made before the race.
const EARLY_MAX: Duration = Duration::from_secs(30);

const NO_SETTINGS: usize = usize::MAX;

/// A connection on loan; it goes back to the pool when dropped.
#[derive(Debug)]
pub struct Lease {
    client: Object,
    target: Target,
    known: Arc<Known>,
    /// The server's process behind it.
    pub pid: i32,
}

/// Why a session got no connection.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// All connections were on loan for too long.
    #[error("no connection was free within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// A new connection took too long.
    #[error("a new connection was not ready within {}", humantime::format_duration(*.0))]
    Slow(Duration),
    /// The server has no room for a new connection (53300).
    #[error(transparent)]
    Full(ConnectError),
    /// A new connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Makes the pool's connections.
#[derive(Debug)]
struct Racing {
    target: Target,
    notices: Notices,
}

impl Racing {
    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, link) = match self.target.link("session").await {
            Ok(made) => made,
            Err(Trouble::Server(error)) => return Err(error),
            Err(trouble) => return Err(carried(self.target.trouble(&trouble)).await),
        };
        let task = self.notices.hear(&client, link).await?;
        Ok((client, task))
    }
}

impl Connect for Racing {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(Racing::connect(self))
    }
}

impl Pool {
    /// A pool; it makes connections when they are asked for. What its servers say aside goes to `notices`.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when deadpool refuses the settings.
    pub fn new(target: &Target, options: &Options, notices: &Notices) -> Result<Pool, ConnectError> {
        let manager = Manager::from_connect(
            // how it is reached is the target's matter
            Config::new(),
            Racing {
                target: target.clone(),
                notices: notices.clone(),
            },
            ManagerConfig {
                recycling_method: options.recycling.clone(),
            },
        );
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(options.size as usize)
            .timeouts(Timeouts {
                wait: Some(options.wait),
                create: Some(options.create),
                recycle: Some(options.wait),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| ConnectError::Settings(error.to_string()))?;
        Ok(Pool {
            pool,
            target: target.clone(),
            is_cleaned: matches!(options.recycling, RecyclingMethod::Clean),
            known: Arc::default(),
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
        self.acquire_within(self.pool.timeouts()).await
    }

    /// Takes a connection before the race, when the limits of the race don't hold yet.
    ///
    /// # Errors
    /// [`AcquireError`] when none was free in time, or a new one failed.
    pub async fn acquire_early(&self) -> Result<Lease, AcquireError> {
        let patient = Timeouts {
            wait: Some(EARLY_MAX),
            create: Some(EARLY_MAX),
            recycle: Some(EARLY_MAX),
        };
        self.acquire_within(patient).await
    }

    async fn acquire_within(&self, limits: Timeouts) -> Result<Lease, AcquireError> {
        use deadpool_postgres::{PoolError, TimeoutType};
        let client = self.pool.timeout_get(&limits).await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Create) => AcquireError::Slow(limits.create.unwrap_or_default()),
            PoolError::Timeout(_) => AcquireError::Timeout(limits.wait.unwrap_or_default()),
            PoolError::Backend(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                AcquireError::Full(self.target.error(&error))
            }
            PoolError::Backend(error) => self.target.error(&error).into(),
            other => ConnectError::Connect {
                address: self.target.address(),
                why: other.to_string(),
            }
            .into(),
        })?;
        let known = self.known(&client).await?;
        if self.is_cleaned {
            known.settings.store(NO_SETTINGS, Ordering::Relaxed);
        }
        Ok(Lease {
            pid: known.pid,
            client,
            target: self.target.clone(),
            known,
        })
    }

    async fn known(&self, client: &Object) -> Result<Arc<Known>, ConnectError> {
        let id = Object::id(client);
        let found = lock(&self.known).get(&id).cloned();
        if let Some(known) = found {
            return Ok(known);
        }
        let pid = simple::pid(client).await.map_err(|error| ConnectError::Connect {
            address: self.target.address(),
            why: explain(&error),
        })?;
        let known = Arc::new(Known {
            pid,
            statements: Mutex::default(),
            settings: AtomicUsize::new(NO_SETTINGS),
        });
        lock(&self.known).insert(id, Arc::clone(&known));
        Ok(known)
    }

    /// Closes all connections that are not on loan; those on loan are closed when given back.
    pub fn close(&self) {
        self.pool.close();
    }
}

impl Lease {
    /// The statement of that number, if it was prepared on this connection.
    pub fn prepared(&self, number: usize) -> Option<Statement> {
        lock(&self.known.statements).get(number)?.clone()
    }

    /// Prepares a statement under that number.
    ///
    /// # Errors
    /// The server's.
    pub async fn prepare_as(&self, number: usize, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let statement = self.client.prepare(sql).await?;
        let mut statements = lock(&self.known.statements);
        if statements.len() <= number {
            statements.resize(number + 1, None);
        }
        statements[number] = Some(statement.clone());
        Ok(statement)
    }

    /// Gives the connection the settings of that number, unless it has them.
    ///
    /// # Errors
    /// The server's.
    pub async fn settings(&self, number: usize, sql: &str) -> Result<(), tokio_postgres::Error> {
        if self.known.settings.load(Ordering::Relaxed) != number {
            self.client.batch_execute(sql).await?;
            self.known.settings.store(number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the connection instead of giving it back: something on it may still be running.
    pub fn discard(self) {
        drop(Object::take(self.client));
    }
}

impl Cancel for Lease {
    async fn cancel(&self) {
        self.target.cancel(&self.client.cancel_token()).await;
    }
}

impl Deref for Lease {
    type Target = deadpool_postgres::ClientWrapper;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
