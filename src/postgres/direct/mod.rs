//! The statements of a racing session, sent and answered on a stream of its own.
//!
//! tokio-postgres makes the connection; then the session takes its stream over, and speaks the extended protocol itself
//! (`Bind`, `Execute`, `Sync`), one statement at a time. Through tokio-postgres a statement goes by two channels to a task that drives
//! the connection, and its answer back: two wake-ups and cold memory in two places, which alone is more than pgbench needs for all of it
//! (`docs/performance.md`). Here a session is one task, woken once by its answer.
//!
//! PostgreSQL documentation: "Frontend/Backend Protocol", "Message Flow" and "Message Formats".

mod fields;
mod line;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::ReadBuf;

pub use fields::{Failure, Fields};
pub(super) use line::{Handover, Line, WeakLine};

/// A row's values, as the server prints them.
pub type TextRow = Vec<Option<String>>;

/// Read at once; most answers are shorter.
const CHUNK: usize = 1024;
/// A buffer that has grown beyond this is not kept.
const KEPT_MAX: usize = 16 * 1024;

/// Of what a server says aside during a statement, so much is kept.
const HEARD_MAX: usize = 256;

/// A session's side of its connection.
pub(super) struct Direct {
    weak: WeakLine,
    /// While the session has it.
    line: Option<Line>,
    read: Vec<u8>,
    write: BytesMut,
    /// By number: the names of what was prepared.
    prepared: Vec<Option<Box<str>>>,
    /// Whether the last statement's answer was `ROLLBACK`.
    was_rolled_back: bool,
    /// Why nothing more can be sent.
    broken: Option<Failure>,
    /// What the server says aside.
    heard: Vec<Fields>,
}

/// An answer, up to `ReadyForQuery`.
#[derive(Default)]
struct Answer {
    row: Option<TextRow>,
    error: Option<Fields>,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Direct {
    pub(super) fn new(weak: WeakLine) -> Direct {
        Direct {
            weak,
            line: None,
            read: Vec::new(),
            write: BytesMut::new(),
            prepared: Vec::new(),
            was_rolled_back: false,
            broken: None,
            heard: Vec::new(),
        }
    }

    /// Takes the stream; nothing may be under way on it.
    pub(super) fn take(&mut self) {
        self.line = self.weak.line();
        match &self.line {
            Some(line) => line.take(),
            None => self.broken = Some(Failure::Lost("connection closed".into())),
        }
    }

    /// Gives the stream back to tokio-postgres.
    pub(super) fn give_back(&mut self) {
        if let Some(line) = self.line.take() {
            line.give_back();
        }
    }

    /// Whether a statement was prepared under that number.
    pub(super) fn has(&self, number: usize) -> bool {
        matches!(self.prepared.get(number), Some(Some(_)))
    }

    /// What the server said aside since it was asked last.
    pub(super) fn heard(&mut self) -> impl Iterator<Item = Fields> {
        self.heard.drain(..)
    }

    /// Whether the last statement's answer was `ROLLBACK`: a COMMIT in an aborted transaction ends so, without an error.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.was_rolled_back
    }

    /// Whether the server has ended the connection, as far as it can be seen without waiting.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut answer = Answer::default();
        while self.broken.is_none() {
            match self.poll_more(&mut cx) {
                Poll::Pending => break,
                // nothing was asked, so what comes is said aside, or the end
                Poll::Ready(Ok(())) => while matches!(self.next(&mut answer, false), Ok(Some(_))) {},
                Poll::Ready(Err(_)) => {}
            }
        }
        self.broken.is_some()
    }

    /// Prepares a statement under a number.
    pub(super) async fn prepare(&mut self, number: usize, sql: &str) -> Result<(), Failure> {
        let name = format!("db_race_{number}");
        build(&mut self.write, |out| frontend::parse(&name, sql, [], out))?;
        self.ask(false).await?;
        if self.prepared.len() <= number {
            self.prepared.resize(number + 1, None);
        }
        self.prepared[number] = Some(name.into());
        Ok(())
    }

    /// Runs a prepared statement; its first row, where that is wanted.
    pub(super) async fn run(
        &mut self,
        number: usize,
        values: &[Option<String>],
        wants_row: bool,
    ) -> Result<Option<TextRow>, Failure> {
        self.bind(number, values)?;
        self.ask(wants_row).await
    }

    /// Runs two prepared statements, each in a transaction of its own, sent at once: the second one starts when the first is done,
    /// with no round trip between. The answers of both.
    pub(super) async fn run_both(
        &mut self,
        first: (usize, &[Option<String>]),
        second: (usize, &[Option<String>]),
    ) -> (Result<Option<TextRow>, Failure>, Result<Option<TextRow>, Failure>) {
        let sent = self.bind(first.0, first.1).and_then(|()| {
            frontend::sync(&mut self.write);
            self.bind(second.0, second.1)
        });
        if let Err(failure) = sent {
            self.write.clear();
            return (Err(failure.clone()), Err(failure));
        }
        match self.ask(true).await {
            Err(Failure::Lost(why)) => (Err(Failure::Lost(why.clone())), Err(Failure::Lost(why))),
            first => (first, self.answer(true).await),
        }
    }

    /// Runs statements without parameters by the simple protocol.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        self.write.clear();
        build(&mut self.write, |out| frontend::query(sql, out))?;
        self.flush().await?;
        self.answer(false).await.map(drop)
    }

    fn bind(&mut self, number: usize, values: &[Option<String>]) -> Result<(), Failure> {
        let Some(Some(name)) = self.prepared.get(number) else {
            return Err(Failure::Unsent(
                "the statement was not prepared on this connection".into(),
            ));
        };
        build(&mut self.write, |out| {
            let value = |value: &Option<String>, out: &mut BytesMut| match value {
                Some(text) => {
                    out.extend_from_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
                None => Ok(IsNull::Yes),
            };
            // no formats: all is text, in both directions
            let bound = frontend::bind("", name, [], values, value, [], out);
            bound.map_err(|error| match error {
                frontend::BindError::Conversion(error) => io::Error::other(error),
                frontend::BindError::Serialization(error) => error,
            })?;
            frontend::execute("", 0, out)
        })
    }

    /// Sends what was built, and awaits the answer.
    async fn ask(&mut self, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        frontend::sync(&mut self.write);
        self.flush().await?;
        self.answer(wants_row).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if let Some(failure) = &self.broken {
            self.write.clear();
            return Err(failure.clone());
        }
        if let Some(line) = &self.line {
            // where that fails, the server may have said why before it left: that is read
            let _ = send(line, &self.write).await;
        }
        self.write.clear();
        if self.write.capacity() > KEPT_MAX {
            self.write = BytesMut::new();
        }
        Ok(())
    }

    /// Reads to the next `ReadyForQuery`.
    async fn answer(&mut self, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        let mut answer = Answer::default();
        loop {
            while let Some(is_last) = self.next(&mut answer, wants_row)? {
                if is_last {
                    return match answer.error {
                        Some(error) => Err(Failure::Server(error)),
                        None => Ok(answer.row),
                    };
                }
            }
            poll_fn(|cx| self.poll_more(cx)).await?;
        }
    }

    /// Reads what there is.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut chunk = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        let read = match &self.line {
            Some(line) => ready!(line.poll_read(cx, &mut buffer)),
            None => Ok(()),
        };
        let why = match read {
            Ok(()) if !buffer.filled().is_empty() => {
                self.read.extend_from_slice(buffer.filled());
                return Poll::Ready(Ok(()));
            }
            Ok(()) => "connection closed".to_string(),
            Err(error) => format!("connection lost: {error}"),
        };
        Poll::Ready(Err(self.broken(Failure::Lost(why))))
    }

    fn broken(&mut self, failure: Failure) -> Failure {
        self.broken.insert(failure).clone()
    }

    /// Takes the next message, if it is there whole; whether it is the answer's last one.
    fn next(&mut self, answer: &mut Answer, wants_row: bool) -> Result<Option<bool>, Failure> {
        let Some((tag, length)) = header(&self.read) else {
            return Ok(None);
        };
        let Some(body) = self.read.get(HEADER..length) else {
            return Ok(None);
        };
        let mut is_last = false;
        match tag {
            b'D' if wants_row && answer.row.is_none() => answer.row = row(body),
            b'C' => self.was_rolled_back = body.starts_with(b"ROLLBACK\0"),
            b'Z' => is_last = true,
            b'E' => {
                let fields = Fields::parse(body);
                if fields.is_fatal() {
                    return Err(self.broken(Failure::Server(fields)));
                }
                answer.error.get_or_insert(fields);
            }
            b'N' if self.heard.len() < HEARD_MAX => self.heard.push(Fields::parse(body)),
            // COPY ... FROM STDIN: there is nothing to copy. What was sent behind it was skipped, Sync included
            b'G' => {
                let refused = frontend::copy_fail("db-race has no data to copy", &mut self.write);
                if refused.is_ok() {
                    frontend::sync(&mut self.write);
                }
                let bytes = self.write.split();
                if let Some(line) = &self.line {
                    let mut cx = Context::from_waker(Waker::noop());
                    // as short as it is, it fits; if the connection is gone, reading says so
                    let _ = line.poll_write(&mut cx, &bytes);
                    let _ = line.poll_flush(&mut cx);
                }
            }
            // rows beyond the first, ends of statements, settings that have changed, notifications
            _ => {}
        }
        if length == self.read.len() {
            self.read.clear();
            if self.read.capacity() > KEPT_MAX {
                self.read = Vec::new();
            }
        } else {
            self.read.drain(..length);
        }
        Ok(Some(is_last))
    }
}

/// A tag and a length.
const HEADER: usize = 5;

/// The next message's tag, and its length with the tag.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (tag, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    // the length counts itself; less would be no message of PostgreSQL's
    Some((*tag, 1 + length.max(4)))
}

/// The values of a `DataRow`.
fn row(body: &[u8]) -> Option<TextRow> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // -1: NULL
        values.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, after) = after.split_at_checked(length)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Err(_) => {
                rest = after;
                None
            }
        });
    }
    Some(values)
}

/// Writes all of it, and sees it off.
async fn send(line: &Line, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match poll_fn(|cx| line.poll_write(cx, left)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => left = &left[n..],
        }
    }
    poll_fn(|cx| line.poll_flush(cx)).await
}

/// Adds a message; one that can't be sent, such as one with a zero byte in its text, is not begun.
fn build(out: &mut BytesMut, message: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Failure> {
    let before = out.len();
    message(out).map_err(|error| {
        out.truncate(before);
        Failure::Unsent(format!("the statement can't be sent: {error}"))
    })
}

#[cfg(test)]
mod tests;
