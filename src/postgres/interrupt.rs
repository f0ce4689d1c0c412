//! Waiting for a statement until a stop is asked for.

use std::convert::Infallible;
use std::time::Duration;

use super::Connection;
use crate::stop::Stop;

/// Between cancel requests: one may come between two statements, where it hits nothing.
const AGAIN: Duration = Duration::from_millis(200);

/// A connection whose statement can be cancelled on the server.
pub(crate) trait Cancel {
    /// Asks for it. Whether or not the request gets through, the statement's answer tells.
    fn cancel(&self) -> impl Future<Output = ()> + Send;
}

impl Cancel for Connection {
    async fn cancel(&self) {
        Connection::cancel(self).await;
    }
}

/// Awaits what runs on a connection. A while after a stop was asked for, its statements are cancelled on the server, and
/// still awaited: a dropped future would leave the server's process running and holding its locks.
pub(crate) async fn interruptible<T>(
    client: &impl Cancel,
    stop: &Stop,
    grace: Duration,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        // most often it is done at once
        biased;
        done = work => done,
        never = cancel_for_ever(client, stop, grace) => match never {},
    }
}

async fn cancel_for_ever(client: &impl Cancel, stop: &Stop, grace: Duration) -> Infallible {
    stop.requested().await;
    if !grace.is_zero() {
        stop.grace(grace).await;
    }
    loop {
        // one that doesn't get through is sent again
        client.cancel().await;
        tokio::time::sleep(AGAIN).await;
    }
}
