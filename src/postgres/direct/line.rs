//! A connection's stream, which two use in turn: tokio-postgres, and a session's own [`Direct`](super::Direct).

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::postgres::wire::Wire;

/// The stream as tokio-postgres sees it: while a session has it, nothing can be read.
pub(in crate::postgres) struct Line<S = Wire>(Arc<Mutex<Shared<S>>>);

/// Leads to a stream, and doesn't keep it open.
pub(in crate::postgres) struct WeakLine<S = Wire>(Weak<Mutex<Shared<S>>>);

struct Shared<S> {
    /// None while a session has it.
    stream: Option<S>,
    /// Who drives the connection for tokio-postgres.
    driver: Option<Waker>,
}

impl<S> Default for WeakLine<S> {
    fn default() -> WeakLine<S> {
        WeakLine(Weak::new())
    }
}

impl<S> Clone for WeakLine<S> {
    fn clone(&self) -> WeakLine<S> {
        WeakLine(self.0.clone())
    }
}

impl<S> WeakLine<S> {
    /// Takes the stream, if its connection still exists. Nothing that tokio-postgres has asked for may be under way.
    pub(super) fn take(&self) -> Option<S> {
        Line(self.0.upgrade()?).lock().stream.take()
    }

    /// Gives the stream back.
    pub(super) fn give_back(&self, stream: S) {
        let Some(shared) = self.0.upgrade() else { return };
        let line = Line(shared);
        let mut shared = line.lock();
        shared.stream = Some(stream);
        if let Some(driver) = shared.driver.take() {
            driver.wake();
        }
    }
}

impl<S> Line<S> {
    pub(in crate::postgres) fn new(stream: S) -> Line<S> {
        Line(Arc::new(Mutex::new(Shared {
            stream: Some(stream),
            driver: None,
        })))
    }

    pub(in crate::postgres) fn downgrade(&self) -> WeakLine<S> {
        WeakLine(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        // a panic elsewhere leaves it as it was
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the stream, as soon as it is here.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut shared = self.lock();
        let keeps = |waker: &Waker| waker.will_wake(cx.waker());
        if !shared.driver.as_ref().is_some_and(keeps) {
            shared.driver = Some(cx.waker().clone());
        }
        match &mut shared.stream {
            Some(stream) => ask(stream, cx),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| Pin::new(stream).poll_read(cx, out))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |stream, cx| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |stream, cx| Pin::new(stream).poll_shutdown(cx))
    }
}

impl TlsStream for Line {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.lock().stream {
            Some(wire) => wire.channel_binding(),
            None => ChannelBinding::none(),
        }
    }
}

/// Gives tokio-postgres a line as its TLS.
pub(in crate::postgres) struct Handover;

impl TlsConnect<Line> for Handover {
    type Stream = Line;
    type Error = Infallible;
    type Future = Ready<Result<Line, Infallible>>;

    fn connect(self, line: Line) -> Self::Future {
        ready(Ok(line))
    }
}
