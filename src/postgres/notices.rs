//! What a server says beside its answers: slow statements inside procedures, and why it ended a connection.
//!
//! Of a deadlock, only the victim is told at which line of which procedure it stood. `auto_explain`, loaded into the
//! racing sessions, tells the others too: when a statement that took long is done, the server sends a notice to the
//! session that ran it, with the call stack as its context. Only superusers may load it; nothing of it outlives the session.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Error};

use super::reach::Link;
use super::{explain, simple};

/// Slow statements remembered for each connection.
const REMEMBERED: usize = 256;
/// Of a statement's text, at the most so many bytes are kept.
const TEXT_MAX: usize = 2_000;
/// A statement that waited in a deadlock took about as long as `deadlock_timeout`; what took less than this part of it is
/// not explained, because the sessions pay for each notice.
const PART: u32 = 10;
const EXPLAIN_SLOW: &str = "\
load 'auto_explain';
set auto_explain.log_min_duration = 'THRESHOLD';
set auto_explain.log_nested_statements = on;
set auto_explain.log_level = notice;
set auto_explain.log_analyze = off;
set auto_explain.log_triggers = off;
set auto_explain.log_format = text;
set client_min_messages = notice;";

/// A statement, perhaps inside a procedure, that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// When the server said so: just after its end.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// Its text.
    pub text: String,
    /// The statements and functions around it, innermost first.
    pub context: Option<String>,
}

/// What the servers of a pool's connections have said, by process.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Statements that take so long are explained.
    threshold: Option<Duration>,
    heard: Arc<Mutex<HashMap<i32, Heard>>>,
}

#[derive(Debug, Default)]
struct Heard {
    slow: VecDeque<Slow>,
    ended: Option<String>,
}

impl Notices {
    /// Notices of sessions that explain their slow statements, if the user may ask for that.
    pub async fn probe(client: &Client, deadlock_timeout: Duration) -> Notices {
        let sql = "select rolsuper from pg_catalog.pg_roles where rolname = current_user";
        let superuser = simple::value(client, sql)
            .await
            .is_ok_and(|is| is.as_deref() == Some("t"));
        Notices {
            // asked only when it can succeed but for a missing library: a refusal would stand in the server's log
            threshold: (superuser && client.batch_execute("load 'auto_explain'").await.is_ok())
                .then(|| (deadlock_timeout / PART).max(Duration::from_millis(1))),
            heard: Arc::default(),
        }
    }

    /// Whether slow statements are explained.
    pub fn explains(&self) -> bool {
        self.threshold.is_some()
    }

    /// The innermost slow statement of a process that still ran at `then` and had begun by `later`.
    ///
    /// A notice may be read long after it was sent, so what was begun before `then` may look as if it were not.
    pub fn slow(&self, pid: i32, then: Instant, later: Instant) -> Option<Slow> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        innermost(heard.get(&pid)?.slow.iter(), then, later).cloned()
    }

    /// Why the server ended a connection on which nothing ran.
    pub fn ended(&self, pid: i32) -> Option<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&pid)?.ended.clone()
    }

    /// Remembers what a server said aside, if it tells of a slow statement.
    pub(super) fn note(&self, pid: i32, message: &str, context: Option<&str>) {
        let Some((took, text)) = explained(message) else {
            return;
        };
        let slow = Slow {
            at: Instant::now(),
            took,
            text: text.to_string(),
            context: context.map(|c| head(c, TEXT_MAX).to_string()),
        };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut heard.entry(pid).or_default().slow;
        known.push_back(slow);
        if known.len() > REMEMBERED {
            known.pop_front();
        }
    }

    fn end(&self, pid: i32, error: &Error) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(pid).or_default().ended = Some(explain(error));
    }

    /// Listens to a new connection, and makes it explain what is slow; also tells its process.
    pub(super) async fn hear(&self, client: &Client, link: Link) -> Result<(JoinHandle<()>, i32), Error> {
        let (tell, pid) = oneshot::channel();
        let task = tokio::spawn(self.clone().listen(link, pid));
        if let Some(threshold) = self.threshold {
            let sql = EXPLAIN_SLOW.replace("THRESHOLD", &format!("{}ms", threshold.as_millis()));
            // without it the race is the same, and less is known of it
            let _ = client.batch_execute(&sql).await;
        }
        let pid = simple::pid(client).await?;
        // fails only when the task has ended, and the next statement will say so
        let _ = tell.send(pid);
        Ok((task, pid))
    }

    /// Drives a connection until it ends.
    async fn listen(self, mut connection: Link, pid: oneshot::Receiver<i32>) {
        let mut pid = Err(pid);
        loop {
            let message = poll_fn(|cx| connection.poll_message(cx)).await;
            if let Err(told) = &mut pid
                && let Ok(known) = told.try_recv()
            {
                pid = Ok(known);
            }
            match (message, &pid) {
                (Some(Ok(AsyncMessage::Notice(notice))), Ok(pid)) => self.note(*pid, notice.message(), notice.where_()),
                (Some(Ok(_)), _) => {}
                (Some(Err(error)), Ok(pid)) => return self.end(*pid, &error),
                // an error also ends every query in flight, and is reported there
                (None | Some(Err(_)), _) => return,
            }
        }
    }
}

/// The first to end after a moment: outer ones end after those inside them.
fn innermost<'a>(all: impl Iterator<Item = &'a Slow>, then: Instant, later: Instant) -> Option<&'a Slow> {
    let begun = |s: &&Slow| s.at.checked_sub(s.took).is_some_and(|from| from <= later);
    all.filter(|s| s.at >= then).filter(begun).min_by_key(|s| s.at)
}

/// Reads `duration: 177.972 ms  plan:\nQuery Text: update ...\nUpdate on acct  (cost=...`: how long, and what. A
/// procedure's own notices are none of these.
fn explained(message: &str) -> Option<(Duration, &str)> {
    let rest = message.strip_prefix("duration: ")?;
    let (ms, rest) = rest.split_once(" ms  plan:\n")?;
    let text = rest.strip_prefix("Query Text: ")?;
    let took = Duration::try_from_secs_f64(ms.parse::<f64>().ok()? / 1e3).ok()?;
    // the plan's first line is the first one with costs
    let plan = text.find("  (cost=").and_then(|cost| text[..cost].rfind('\n'));
    Some((took, head(text[..plan.unwrap_or(text.len())].trim(), TEXT_MAX)))
}

fn head(text: &str, max: usize) -> &str {
    let cut = (0..=max.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    &text[..cut.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_from_a_procedures_own_words() {
        let message = "duration: 177.972 ms  plan:\nQuery Text: update acct\n   set bal = 1\n\
            Update on acct  (cost=0.15..8.17 rows=0 width=0)\n  ->  Seq Scan on acct  (cost=0.15..8.17 rows=1 width=10)";
        let (took, text) = explained(message).unwrap();
        assert_eq!((took.as_micros(), text), (177_972, "update acct\n   set bal = 1"));
        assert_eq!(explained("duration: long"), None);
        assert_eq!(explained("duration: -1 ms  plan:\nQuery Text: x"), None);
        assert_eq!(explained("hello"), None);
        assert_eq!(head("äöü", 3), "ä");
    }

    #[test]
    fn the_innermost_statement_of_a_moment_is_the_first_to_end() {
        let zero = Instant::now();
        let slow = |from: u64, to: u64| Slow {
            at: zero + Duration::from_millis(to),
            took: Duration::from_millis(to - from),
            text: format!("{from}"),
            context: None,
        };
        let all = [slow(10, 60), slow(100, 300), slow(80, 310), slow(320, 400)];
        let at = |ms| zero + Duration::from_millis(ms);
        let found = |then, later| innermost(all.iter(), at(then), at(later)).map(|s| s.text.as_str());
        assert_eq!(found(200, 200), Some("100"));
        assert_eq!(found(90, 90), Some("80"));
        assert_eq!(found(90, 200), Some("100"), "read late");
        assert_eq!(found(5, 5), None);
        assert_eq!(found(500, 600), None);
    }
}
