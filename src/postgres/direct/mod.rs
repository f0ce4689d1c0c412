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
mod message;
mod prepared;
mod scratch;

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use fields::{Failure, Fields};
pub(super) use line::{Handover, Line, WeakLine};
use message::{message, row};
use prepared::{Prepared, name};
use scratch::Scratch;

use super::wire::Wire;

/// A row's values, as the server prints them.
pub type TextRow = Vec<Option<String>>;

/// Read at once; most answers are shorter.
const CHUNK: usize = 1024;

/// Of what a server says aside during a statement, so much is kept.
const HEARD_MAX: usize = 256;

/// A session's side of its connection. All of it is in one piece, stream included: with a thousand sessions, what an attempt waits for
/// is memory that was not touched for a while.
pub(super) struct Direct<S = Wire> {
    line: WeakLine<S>,
    /// While the session has it.
    stream: Option<S>,
    /// Of a message that has come in part.
    read: Vec<u8>,
    prepared: Prepared,
    /// Whether an answer is awaited; for ever, if nobody waited for its end.
    is_asked: bool,
    /// Whether the last statement's answer was `ROLLBACK`.
    was_rolled_back: bool,
    /// Why nothing more can be sent.
    broken: Option<Box<Failure>>,
    /// What the server says aside; none while it says nothing.
    heard: Option<Box<Heard>>,
}

/// What a server has said aside.
#[derive(Debug, Default)]
struct Heard(Vec<Fields>);

impl Heard {
    fn push(&mut self, said: Fields) {
        if self.0.len() < HEARD_MAX {
            self.0.push(said);
        }
    }
}

/// What is ready to be sent on the connection that it was made for.
#[derive(Debug)]
pub struct Bound(Scratch);

/// An answer, up to `ReadyForQuery`.
#[derive(Default)]
struct Answer {
    row: Option<TextRow>,
    error: Option<Fields>,
}

impl<S> std::fmt::Debug for Direct<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct")
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl<S> Direct<S> {
    pub(super) fn new(line: WeakLine<S>) -> Direct<S> {
        Direct {
            line,
            stream: None,
            read: Vec::new(),
            prepared: Prepared::default(),
            is_asked: false,
            was_rolled_back: false,
            broken: None,
            heard: None,
        }
    }

    /// Takes the stream; nothing may be under way on it.
    pub(super) fn take(&mut self) {
        self.stream = self.line.take();
        if self.stream.is_none() {
            self.broken(Failure::Lost("connection closed".into()));
        }
    }

    /// Gives the stream back to tokio-postgres.
    pub(super) fn give_back(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.line.give_back(stream);
        }
    }

    /// Lets nothing more be sent.
    pub(super) fn close(&mut self) {
        self.broken(Failure::Lost("connection closed".into()));
    }

    /// Whether a statement was prepared under that number.
    pub(super) fn has(&self, number: usize) -> bool {
        self.prepared.has(number)
    }

    /// What the server said aside since it was asked last.
    pub(super) fn heard(&mut self) -> impl Iterator<Item = Fields> {
        self.heard.take().into_iter().flat_map(|heard| heard.0)
    }

    /// Whether the last statement's answer was `ROLLBACK`: a COMMIT in an aborted transaction ends so, without an error.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.was_rolled_back
    }

    fn broken(&mut self, failure: Failure) -> Failure {
        self.broken = Some(Box::new(failure.clone()));
        failure
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Direct<S> {
    /// Whether the server has ended the connection, as far as it can be seen without waiting.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut answer = Answer::default();
        // nothing was asked, so what comes is said aside, or the end
        let read = std::mem::take(&mut self.read);
        let _ = self.hear(&read, &mut answer, false);
        while self.broken.is_none() && self.poll_answer(&mut cx, &mut answer, false).is_ready() {}
        self.broken.is_some() || self.is_asked
    }

    /// Prepares a statement under a number.
    pub(super) async fn prepare(&mut self, number: usize, sql: &str) -> Result<(), Failure> {
        let mut out = Scratch::take();
        build(&mut out, |out| frontend::parse(&name(number), sql, [], out))?;
        self.ask(out, false).await?;
        self.prepared.add(number);
        Ok(())
    }

    /// Runs a prepared statement; its first row, where that is wanted.
    pub(super) async fn run(
        &mut self,
        number: usize,
        values: &[Option<Cow<'_, str>>],
        wants_row: bool,
    ) -> Result<Option<TextRow>, Failure> {
        let bound = self.bound(number, values)?;
        self.execute(bound, wants_row).await
    }

    /// A prepared statement with its values, ready to be sent.
    pub(super) fn bound(&self, number: usize, values: &[Option<Cow<'_, str>>]) -> Result<Bound, Failure> {
        let mut out = Scratch::take();
        self.bind(&mut out, number, values)?;
        Ok(Bound(out))
    }

    /// Sends it; its first row, where that is wanted.
    pub(super) async fn execute(&mut self, bound: Bound, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        self.ask(bound.0, wants_row).await
    }

    /// Runs two prepared statements, each in a transaction of its own, sent at once: the second one starts when the first is done,
    /// with no round trip between. The answers of both.
    pub(super) async fn run_both(
        &mut self,
        first: (usize, &[Option<Cow<'_, str>>]),
        second: (usize, &[Option<Cow<'_, str>>]),
    ) -> (Result<Option<TextRow>, Failure>, Result<Option<TextRow>, Failure>) {
        let mut out = Scratch::take();
        let built = self.bind(&mut out, first.0, first.1).and_then(|()| {
            frontend::sync(&mut out);
            self.bind(&mut out, second.0, second.1)
        });
        if let Err(failure) = built {
            return (Err(failure.clone()), Err(failure));
        }
        match self.ask(out, true).await {
            Err(Failure::Lost(why)) => (Err(Failure::Lost(why.clone())), Err(Failure::Lost(why))),
            first => (first, self.answer(true).await),
        }
    }

    /// Runs statements without parameters by the simple protocol.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        let mut out = Scratch::take();
        build(&mut out, |out| frontend::query(sql, out))?;
        self.send(out).await?;
        self.answer(false).await.map(drop)
    }

    fn bind(&self, out: &mut BytesMut, number: usize, values: &[Option<Cow<'_, str>>]) -> Result<(), Failure> {
        if !self.prepared.has(number) {
            return Err(Failure::Unsent(
                "the statement was not prepared on this connection".into(),
            ));
        }
        build(out, |out| {
            let value = |value: &Option<Cow<'_, str>>, out: &mut BytesMut| match value {
                Some(text) => {
                    out.extend_from_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
                None => Ok(IsNull::Yes),
            };
            // no formats: all is text, in both directions
            let bound = frontend::bind("", &name(number), [], values, value, [], out);
            bound.map_err(|error| match error {
                frontend::BindError::Conversion(error) => io::Error::other(error),
                frontend::BindError::Serialization(error) => error,
            })?;
            frontend::execute("", 0, out)
        })
    }

    /// Sends what was built, and awaits the answer.
    async fn ask(&mut self, mut out: Scratch, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        frontend::sync(&mut out);
        self.send(out).await?;
        self.answer(wants_row).await
    }

    async fn send(&mut self, out: Scratch) -> Result<(), Failure> {
        if let Some(failure) = &self.broken {
            return Err(Failure::clone(failure));
        }
        if self.is_asked {
            return Err(Failure::Lost("connection closed".into()));
        }
        self.is_asked = true;
        if let Some(stream) = &mut self.stream {
            // where that fails, the server may have said why before it left: that is read
            let _ = send(stream, &out).await;
        }
        Ok(())
    }

    /// Reads to the next `ReadyForQuery`.
    async fn answer(&mut self, wants_row: bool) -> Result<Option<TextRow>, Failure> {
        let mut answer = Answer::default();
        self.is_asked = true;
        // what came with the answer before it
        let read = std::mem::take(&mut self.read);
        let mut is_whole = self.hear(&read, &mut answer, wants_row)?;
        while !is_whole {
            is_whole = poll_fn(|cx| self.poll_answer(cx, &mut answer, wants_row)).await?;
        }
        self.is_asked = false;
        match answer.error {
            Some(error) => Err(Failure::Server(error)),
            None => Ok(answer.row),
        }
    }

    /// Reads what there is; whether the answer is whole.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        answer: &mut Answer,
        wants_row: bool,
    ) -> Poll<Result<bool, Failure>> {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut buffer = ReadBuf::uninit(&mut chunk);
        let read = match &mut self.stream {
            Some(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer)),
            None => Ok(()),
        };
        let why = match read {
            Ok(()) if !buffer.filled().is_empty() => {
                if self.read.is_empty() {
                    return Poll::Ready(self.hear(buffer.filled(), answer, wants_row));
                }
                let mut read = std::mem::take(&mut self.read);
                read.extend_from_slice(buffer.filled());
                return Poll::Ready(self.hear(&read, answer, wants_row));
            }
            Ok(()) => "connection closed".to_string(),
            Err(error) => format!("connection lost: {error}"),
        };
        Poll::Ready(Err(self.broken(Failure::Lost(why))))
    }

    /// Takes the messages that are there whole, up to the end of the answer, and keeps the rest; whether the answer is whole.
    fn hear(&mut self, read: &[u8], answer: &mut Answer, wants_row: bool) -> Result<bool, Failure> {
        let mut left = read;
        let mut is_whole = false;
        while !is_whole && let Some((tag, body, rest)) = message(left) {
            is_whole = tag == b'Z';
            left = rest;
            self.take_in(tag, body, answer, wants_row)?;
        }
        self.read.extend_from_slice(left);
        Ok(is_whole)
    }

    fn take_in(&mut self, tag: u8, body: &[u8], answer: &mut Answer, wants_row: bool) -> Result<(), Failure> {
        match tag {
            b'D' if wants_row && answer.row.is_none() => answer.row = row(body),
            b'C' => self.was_rolled_back = body.starts_with(b"ROLLBACK\0"),
            b'E' => {
                let fields = Fields::parse(body);
                if fields.is_fatal() {
                    return Err(self.broken(Failure::Server(fields)));
                }
                answer.error.get_or_insert(fields);
            }
            b'N' => self.heard.get_or_insert_default().push(Fields::parse(body)),
            // COPY ... FROM STDIN: there is nothing to copy. What was sent behind it was skipped, Sync included
            b'G' => {
                let mut out = Scratch::take();
                let refused = frontend::copy_fail("db-race has no data to copy", &mut out);
                if refused.is_ok() {
                    frontend::sync(&mut out);
                }
                if let Some(stream) = &mut self.stream {
                    let mut cx = Context::from_waker(Waker::noop());
                    // as short as it is, it fits; if the connection is gone, reading says so
                    let _ = Pin::new(&mut *stream).poll_write(&mut cx, &out);
                    let _ = Pin::new(stream).poll_flush(&mut cx);
                }
            }
            // rows beyond the first, ends of statements, settings that have changed, notifications
            _ => {}
        }
        Ok(())
    }
}

/// Writes all of it, and sees it off.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, left)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => left = &left[n..],
        }
    }
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
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
