//! Waiting for a statement until a stop is asked for.

use std::convert::Infallible;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::stop::Stop;

/// Between cancel requests: one may come between two statements, where it hits nothing.
const AGAIN: Duration = Duration::from_millis(200);

/// Awaits what runs on a connection. A while after a stop was asked for, its statements are cancelled on the server, and
/// still awaited: a dropped future would leave the server's process running and holding its locks.
pub(crate) async fn interruptible<T>(
    client: &Client,
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

async fn cancel_for_ever(client: &Client, stop: &Stop, grace: Duration) -> Infallible {
    stop.requested().await;
    if !grace.is_zero() {
        stop.grace(grace).await;
    }
    loop {
        // one that doesn't get through is sent again
        let _ = client.cancel_token().cancel_query(NoTls).await;
        tokio::time::sleep(AGAIN).await;
    }
}
