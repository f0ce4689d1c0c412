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

/// What bytes go through.
pub(in crate::postgres) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ties a password's exchange to the encryption below it.
    fn binding(&self) -> ChannelBinding;
}

impl Stream for Wire {
    fn binding(&self) -> ChannelBinding {
        self.channel_binding()
    }
}

/// The stream as tokio-postgres sees it: while a session has it, nothing can be read.
#[derive(Clone)]
pub(in crate::postgres) struct Line(Arc<Mutex<Shared>>);

/// Leads to a stream, and doesn't keep it open.
#[derive(Clone, Default)]
pub(in crate::postgres) struct WeakLine(Weak<Mutex<Shared>>);

impl WeakLine {
    /// The stream, if its connection still exists.
    pub(super) fn line(&self) -> Option<Line> {
        self.0.upgrade().map(Line)
    }
}

struct Shared {
    stream: Box<dyn Stream>,
    is_taken: bool,
    /// Who drives the connection for tokio-postgres.
    driver: Option<Waker>,
}

impl Line {
    pub(in crate::postgres) fn new(stream: impl Stream + 'static) -> Line {
        Line(Arc::new(Mutex::new(Shared {
            stream: Box::new(stream),
            is_taken: false,
            driver: None,
        })))
    }

    pub(in crate::postgres) fn downgrade(&self) -> WeakLine {
        WeakLine(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // a panic elsewhere leaves it as it was
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps tokio-postgres from reading. Nothing that it has asked for may be under way.
    pub(super) fn take(&self) {
        self.lock().is_taken = true;
    }

    /// Lets tokio-postgres read again.
    pub(super) fn give_back(&self) {
        let mut shared = self.lock();
        shared.is_taken = false;
        if let Some(driver) = shared.driver.take() {
            driver.wake();
        }
    }

    /// Reads for the session.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, out)
    }

    /// Writes for the session.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write(cx, bytes)
    }

    /// Sends for the session what encryption still holds back.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(cx)
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        shared.driver = Some(cx.waker().clone());
        match shared.is_taken {
            true => Poll::Pending,
            false => Pin::new(&mut shared.stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }
}

impl TlsStream for Line {
    fn channel_binding(&self) -> ChannelBinding {
        self.lock().stream.binding()
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
