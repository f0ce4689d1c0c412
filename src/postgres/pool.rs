//! The pool that racing sessions draw their connections from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, ObjectId, RecyclingMethod, Runtime, Timeouts};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};

use super::connect::carried;
use super::dial::Trouble;
use super::direct::{Bound, Direct, Failure, TextRow, WeakLine};
use super::{Cancel, ConnectError, Notices, Target, explain, simple};

/// A deadpool-postgres pool that also knows each of its connections.
#[derive(Clone)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
    origin: Arc<Origin>,
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
struct Known {
    /// tokio-postgres keeps the process id to itself, so it is asked for once a connection.
    pid: i32,
    /// While it is not on loan.
    direct: Mutex<Option<Direct>>,
    /// The number of the settings that it has; [`NO_SETTINGS`] at first.
    settings: AtomicUsize,
}

/// How long a connection may take that is made before the race.
const EARLY_MAX: Duration = Duration::from_secs(30);

const NO_SETTINGS: usize = usize::MAX;

/// A connection on loan; it goes back to the pool when dropped.
pub struct Lease {
    direct: Direct,
    /// The server's process behind it.
    pub pid: i32,
    loan: Loan,
}

/// A lease's means to run statements, one at a time. When a future of its is dropped, the connection can't be used again.
pub struct Talk<'a> {
    direct: &'a mut Direct,
    pid: i32,
    loan: &'a Loan,
}

/// Where a connection on loan belongs. It can cancel what runs on it.
pub struct Loan {
    /// None only when it is discarded.
    client: Option<Object>,
    origin: Arc<Origin>,
    known: Arc<Known>,
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

/// Where a pool's connections come from.
struct Origin {
    target: Target,
    notices: Notices,
    /// By the server's process: the streams of connections that were never on loan.
    lines: Mutex<HashMap<i32, WeakLine>>,
}

/// Makes the pool's connections.
struct Maker(Arc<Origin>);

impl Origin {
    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, link) = match self.target.link("session").await {
            Ok(made) => made,
            Err(Trouble::Server(error)) => return Err(error),
            Err(trouble) => return Err(carried(self.target.trouble(&trouble)).await),
        };
        let line = link.line();
        let (task, pid) = self.notices.hear(&client, link).await?;
        lock(&self.lines).insert(pid, line);
        Ok((client, task))
    }
}

impl Connect for Maker {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(self.0.connect())
    }
}

impl Pool {
    /// A pool; it makes connections when they are asked for. What its servers say aside goes to `notices`.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] when deadpool refuses the settings.
    pub fn new(target: &Target, options: &Options, notices: &Notices) -> Result<Pool, ConnectError> {
        let origin = Arc::new(Origin {
            target: target.clone(),
            notices: notices.clone(),
            lines: Mutex::default(),
        });
        let manager = Manager::from_connect(
            // how it is reached is the target's matter
            Config::new(),
            Maker(Arc::clone(&origin)),
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
            origin,
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
                AcquireError::Full(self.origin.target.error(&error))
            }
            PoolError::Backend(error) => self.origin.target.error(&error).into(),
            other => ConnectError::Connect {
                address: self.origin.target.address(),
                why: other.to_string(),
            }
            .into(),
        })?;
        let known = self.known(&client).await?;
        if self.is_cleaned {
            known.settings.store(NO_SETTINGS, Ordering::Relaxed);
        }
        let mut direct = lock(&known.direct)
            .take()
            .unwrap_or_else(|| Direct::new(WeakLine::default()));
        direct.take();
        Ok(Lease {
            pid: known.pid,
            direct,
            loan: Loan {
                client: Some(client),
                origin: Arc::clone(&self.origin),
                known,
            },
        })
    }

    async fn known(&self, client: &Object) -> Result<Arc<Known>, ConnectError> {
        let id = Object::id(client);
        let found = lock(&self.known).get(&id).cloned();
        if let Some(known) = found {
            return Ok(known);
        }
        let pid = simple::pid(client).await.map_err(|error| ConnectError::Connect {
            address: self.origin.target.address(),
            why: explain(&error),
        })?;
        let line = lock(&self.origin.lines).remove(&pid).unwrap_or_default();
        let known = Arc::new(Known {
            pid,
            direct: Mutex::new(Some(Direct::new(line))),
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
    /// What runs its statements, and what cancels them meanwhile.
    pub fn talk(&mut self) -> (Talk<'_>, &Loan) {
        let talk = Talk {
            direct: &mut self.direct,
            pid: self.pid,
            loan: &self.loan,
        };
        (talk, &self.loan)
    }

    /// Whether a statement was prepared under that number on this connection.
    pub fn has(&self, number: usize) -> bool {
        self.direct.has(number)
    }

    /// Whether the last statement's answer was `ROLLBACK`: a COMMIT in an aborted transaction ends so, without an error.
    pub fn was_rolled_back(&self) -> bool {
        self.direct.was_rolled_back()
    }

    /// Whether the connection is gone, as far as that can be seen without waiting.
    pub fn is_closed(&mut self) -> bool {
        self.direct.is_closed()
    }

    /// Ends the connection instead of giving it back: something on it may still be running.
    pub fn discard(mut self) {
        self.direct.close();
    }
}

impl Talk<'_> {
    /// Prepares a statement under a number, unless it was.
    ///
    /// # Errors
    /// [`Failure`], as for all that follow.
    pub async fn prepare(&mut self, number: usize, sql: &str) -> Result<(), Failure> {
        if self.direct.has(number) {
            return Ok(());
        }
        let prepared = self.direct.prepare(number, sql).await;
        self.note();
        prepared
    }

    /// Runs a prepared statement. Its first row, where that is wanted.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn run(
        &mut self,
        number: usize,
        values: &[Option<Cow<'_, str>>],
        wants_row: bool,
    ) -> Result<Option<TextRow>, Failure> {
        let answer = self.direct.run(number, values, wants_row).await;
        self.note();
        answer
    }

    /// A prepared statement with its values.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn bind(&self, number: usize, values: &[Option<Cow<'_, str>>]) -> Result<Bound, Failure> {
        self.direct.bound(number, values)
    }

    /// Runs what was bound. Its first row, where that is wanted.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn execute(&mut self, bound: Bound, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        let answer = self.direct.execute(bound, wants_row).await;
        self.note();
        answer
    }

    /// Runs two prepared statements, each in a transaction of its own, sent at once: no round trip lies between them.
    pub async fn run_both(
        &mut self,
        first: (usize, &[Option<Cow<'_, str>>]),
        second: (usize, &[Option<Cow<'_, str>>]),
    ) -> (Result<Option<TextRow>, Failure>, Result<Option<TextRow>, Failure>) {
        let answers = self.direct.run_both(first, second).await;
        self.note();
        answers
    }

    /// Runs statements without parameters.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        let done = self.direct.simple(sql).await;
        self.note();
        done
    }

    /// Gives the connection the settings of that number, unless it has them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn settings(&mut self, number: usize, sql: &str) -> Result<(), Failure> {
        let known = &self.loan.known.settings;
        if known.load(Ordering::Relaxed) != number {
            self.simple(sql).await?;
            known.store(number, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&mut self) {
        for said in self.direct.heard() {
            self.loan.origin.notices.note(self.pid, said.message(), said.context());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.loan.client.take() else { return };
        let is_closed = self.direct.is_closed();
        self.direct.give_back();
        if is_closed {
            // dropped, not given back
            drop(Object::take(client));
        } else {
            let direct = std::mem::replace(&mut self.direct, Direct::new(WeakLine::default()));
            *lock(&self.loan.known.direct) = Some(direct);
        }
    }
}

impl Cancel for Loan {
    async fn cancel(&self) {
        if let Some(client) = &self.client {
            self.origin.target.cancel(&client.cancel_token()).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
