//! Poolers between us and the server, such as PgBouncer.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Empty, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Error};

use super::{ConnectError, Connection, Target, explain};

/// Looks again so often: a pooler that hands out its connections in turn gives another one at the second time.
const LOOKS: u32 = 3;
/// A pooler that has a connection left gives it at once, and one that has to make it needs a moment.
const ROOM_MAX: Duration = Duration::from_secs(5);

/// How long one of the server's processes is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// There is no pooler.
    Own,
    /// As long as we are connected (`pool_mode = session`).
    Session,
    /// For a transaction (`pool_mode = transaction`): there are no sessions.
    Transaction,
}

/// Whether there is a pooler, and what it does.
///
/// # Errors
/// When the connections don't answer.
pub(crate) async fn lending(target: &Target, connection: &Connection) -> Result<Lending, ConnectError> {
    let look = async {
        let other = target.connect("control").await.map_err(Ok)?;
        let mine = connection.pid().await.map_err(Err)?;
        let has_pooler = named_pid(&connection.cancel_token()).await != Some(mine);
        // an idle process that we call ours is given to whoever begins a transaction ...
        other.batch_execute("begin").await.map_err(Err)?;
        let mut moved = other.pid().await.map_err(Err)? == mine;
        // ... or we get another one while that is busy ...
        if !moved {
            moved = connection.pid().await.map_err(Err)? != mine;
        }
        other.batch_execute("rollback").await.map_err(Err)?;
        // ... or when it is free again
        for _ in 0..LOOKS {
            moved |= connection.pid().await.map_err(Err)? != mine;
        }
        Ok(match (moved, has_pooler) {
            (true, _) => Lending::Transaction,
            (false, true) => Lending::Session,
            (false, false) => Lending::Own,
        })
    };
    let failed = |why: String| ConnectError::Connect {
        address: target.address(),
        why,
    };
    match tokio::time::timeout(ROOM_MAX, look).await {
        Ok(result) => result.map_err(|error: Result<ConnectError, Error>| match error {
            Ok(error) => error,
            Err(error) => failed(explain(&error)),
        }),
        Err(_) => Err(failed(
            "a second connection gets no answer; behind a pooler, its pool may be too small".into(),
        )),
    }
}

/// How many more connections a pooler gives, up to those wanted.
pub(crate) async fn room(target: &Target, wanted: u32) -> u32 {
    let mut held = Vec::new();
    for got in 0..wanted {
        // a pooler lets everybody in, and then makes him wait for the answer to his first question
        let next = tokio::time::timeout(ROOM_MAX, async {
            let connection = target.connect("control").await.ok()?;
            connection.pid().await.ok()?;
            Some(connection)
        });
        match next.await {
            Ok(Some(connection)) => held.push(connection),
            _ => return got,
        }
    }
    wanted
}

/// The process that the server has named for requests to cancel. A pooler names one of its own making. tokio-postgres
/// tells it to nobody, but writes it into such a request.
async fn named_pid(token: &CancelToken) -> Option<i32> {
    let written = Paper::default();
    token.cancel_query_raw(tokio::io::empty(), written.clone()).await.ok()?;
    let written = written.0.lock().unwrap_or_else(PoisonError::into_inner);
    // length and code go before it
    Some(i32::from_be_bytes(written.get(8..12)?.try_into().ok()?))
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Paper {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paper {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Paper {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl TlsConnect<Empty> for Paper {
    type Stream = Paper;
    type Error = Infallible;
    type Future = Ready<Result<Paper, Infallible>>;

    fn connect(self, _: Empty) -> Self::Future {
        ready(Ok(self))
    }
}
