//! What ends a check that doesn't end by itself.
//!
//! The server has a time limit of its own (`statement_timeout`), which a check can't change for the statement that it is. Where that does not
//! help, because a function catches the cancellation or a statement takes its time in pieces, the check is cancelled from here, and in the end
//! its connection is terminated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::snapshot::Worker;
use crate::postgres::Target;

/// Between requests to cancel: one may come between two statements, where it hits nothing.
const CANCEL_PERIOD: Duration = Duration::from_millis(200);
/// How long it is asked to end, before it is made to.
const CANCEL_FOR: Duration = Duration::from_secs(3);
/// How long the end of a terminated connection may take, and how often it is tried.
const TERMINATE_FOR: Duration = Duration::from_secs(3);
const TERMINATE_TRIES: usize = 3;

/// Why everything ends early: asked by the user, or the snapshot is too old.
pub(super) type Over = watch::Receiver<Option<String>>;

/// That a check did not end in time.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Whether it was asked to.
    pub(super) is_late: AtomicBool,
    /// Whether its connection was terminated.
    pub(super) is_terminated: AtomicBool,
}

/// Awaits what a worker does until the deadline, or until everything is over; then it is made to end. None when even that didn't help.
pub(super) async fn within<T>(
    worker: &Worker,
    target: &Target,
    deadline: Instant,
    over: &mut Over,
    ending: &Ending,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        // most often it is done at once
        biased;
        done = work => Some(done),
        () = end(worker, target, deadline, over, ending) => None,
    }
}

async fn end(worker: &Worker, target: &Target, deadline: Instant, over: &mut Over, ending: &Ending) {
    tokio::select! {
        () = sleep_until(deadline) => ending.is_late.store(true, Ordering::Relaxed),
        _ = over.wait_for(Option::is_some) => {}
    }
    let cancel_until = Instant::now() + CANCEL_FOR;
    while Instant::now() < cancel_until {
        // whether or not the request gets through, the statement's answer tells
        let _ = timeout(CANCEL_FOR, worker.connection.cancel()).await;
        sleep(CANCEL_PERIOD).await;
    }
    ending.is_terminated.store(true, Ordering::Relaxed);
    for _ in 0..TERMINATE_TRIES {
        let _ = timeout(TERMINATE_FOR, terminate(worker.pid, target)).await;
        sleep(TERMINATE_FOR).await;
    }
}

/// Ends a session of our own; a role may always end its own sessions.
async fn terminate(pid: i32, target: &Target) {
    if let Ok(connection) = target.connect("control").await {
        let sql = format!("select pg_catalog.pg_terminate_backend({pid})");
        let _ = connection.simple_query(&sql).await;
    }
}
