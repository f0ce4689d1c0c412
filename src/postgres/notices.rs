//! What a server says beside its answers: slow statements inside procedures, and why it ended a connection.
//!
//! Of a deadlock, only the victim is told at which line of which procedure it stood. `auto_explain`, loaded into the
//! racing sessions, tells the others too: when a statement that took long is done, the server sends a notice to the
//! session that ran it, with the call stack as its context. Only superusers may load it; nothing of it outlives the session.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Error};

use super::reach::Link;
use super::slow::{Slow, SlowStatements};
use super::{explain, simple};

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

/// What the servers of a pool's connections have said, by process.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Statements that take so long are explained.
    threshold: Option<Duration>,
    heard: Arc<Mutex<HashMap<i32, Heard>>>,
}

#[derive(Debug, Default)]
struct Heard {
    slow: SlowStatements,
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

    /// The innermost slow statement that a process was in when it waited in a deadlock of which the victim's error was read
    /// at `met`; it `stood` there at that moment, if it was seen.
    pub fn in_deadlock(&self, pid: i32, stood: Option<Instant>, met: Instant) -> Option<Slow> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let slow = &heard.get(&pid)?.slow;
        let found = stood.and_then(|then| slow.running(then, met));
        // it ends as soon as the victim's locks are released
        let limit = self.threshold? * PART / 2;
        found.or_else(|| slow.ended_with(met, limit)).cloned()
    }

    /// Why the server ended a connection on which nothing ran.
    pub fn ended(&self, pid: i32) -> Option<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&pid)?.ended.clone()
    }

    /// Remembers what a server said aside, if it tells of a slow statement.
    pub(super) fn note(&self, pid: i32, message: &str, context: Option<&str>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut heard.entry(pid).or_default().slow;
        known.add(Instant::now(), message, context);
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
