//! A unix socket for sessions that race.
//!
//! tokio watches a socket for reading and writing at once. A unix socket becomes writable each time the server has read
//! something, so every statement would wake the client once for nothing, before its answer. This one is watched for
//! reading; for writing only while the server doesn't read fast enough.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// More than most answers take.
const CHUNK: usize = 1024;

/// A connection to a socket of a server.
#[derive(Debug)]
pub(super) struct Socket {
    stream: AsyncFd<UnixStream>,
    /// The same socket, watched for writing.
    full: Option<Box<AsyncFd<UnixStream>>>,
}

#[expect(
    deprecated,
    reason = "what took its place is unsafe, for types that may lose their descriptor; this one has it as long as it lives"
)]
fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl Socket {
    /// Connects, and tells the user who listens there. A path that begins with a zero byte is a name in Linux' abstract
    /// namespace.
    pub(super) async fn connect(path: &Path) -> io::Result<(Socket, u32)> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        let owner = stream.peer_cred()?.uid();
        // not blocking, and stays so
        let socket = Socket {
            stream: watched(stream.into_std()?, Interest::READABLE)?,
            full: None,
        };
        Ok((socket, owner))
    }

    /// Pending until the server has read some of what was written.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let full = match &self.full {
            Some(full) => full,
            None => {
                let same = self.stream.get_ref().try_clone()?;
                self.full.insert(Box::new(watched(same, Interest::WRITABLE)?))
            }
        };
        // it is made anew when there is no room again, so nothing of an earlier readiness is left
        let ready = full.poll_write_ready(cx).map_ok(|mut guard| guard.clear_ready());
        if ready.is_ready() {
            self.full = None;
        }
        ready
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.stream.poll_read_ready(cx))?;
            let room = out.remaining().min(CHUNK);
            match guard.get_inner().read(out.initialize_unfilled_to(room)) {
                Ok(n) => {
                    out.advance(n);
                    if n > 0 && n < room {
                        // that was all: asking for more would only say so
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.get_ref().write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.poll_room(cx))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.stream.get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn much_is_written_and_read_whole_in_both_directions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (mut client, owner) = Socket::connect(&path).await.unwrap();
        assert_eq!(owner, nix::unistd::geteuid().as_raw());
        let (mut server, _) = listener.accept().await.unwrap();
        // more than the socket's buffer holds, so that the writer has to wait for room
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let echo = tokio::spawn(async move {
            let mut got = vec![0; expected.len()];
            server.read_exact(&mut got).await.unwrap();
            assert!(got == expected);
            server.write_all(&got).await.unwrap();
        });
        client.write_all(&sent).await.unwrap();
        let mut back = vec![0; sent.len()];
        client.read_exact(&mut back).await.unwrap();
        assert!(back == sent);
        echo.await.unwrap();
        assert_eq!(client.read(&mut back).await.unwrap(), 0, "the other end has closed");
    }
}
