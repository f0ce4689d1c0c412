//! What carries the protocol: a unix socket, TCP, or TLS over TCP.
//!
//! tokio-postgres makes connections of its own only in ways that lack half of what libpq does. So they are made here, with
//! their TLS, and handed over: to tokio-postgres each looks like TLS that needs no handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::auth::Guard;
use super::socket::Socket;
use super::tls;

/// A connection to a server, on which nothing has been said but what TLS says.
pub(super) struct Wire {
    pub(super) carrier: Carrier,
    /// Watches the authentication until it is over.
    pub(super) guard: Option<Box<Guard>>,
}

pub(super) enum Carrier {
    Socket(Socket),
    Tcp(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Wire {
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.carrier, Carrier::Tls(_))
    }
}

/// Passes a call on to what carries it.
macro_rules! carried {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.carrier {
            Carrier::Socket(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Carrier::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Carrier::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let result = carried!(self, stream => stream.poll_read(cx, out));
        if let Some(guard) = &mut self.guard {
            // an answer that must not be given is prevented by never showing the question
            guard.hear(&out.filled()[before..])?;
            if guard.is_done() {
                self.guard = None;
            }
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_shutdown(cx))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.carrier {
            Carrier::Tls(stream) => stream.channel_binding(),
            _ => ChannelBinding::none(),
        }
    }
}
