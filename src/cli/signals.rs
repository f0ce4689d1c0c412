//! SIGINT and SIGTERM: the first asks a run to stop, the second not to wait for anything.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit;
use crate::stop::Stop;

/// How long the end may take that was asked for twice. The throwaway server's guard cleans up behind us.
const AT_ONCE_MAX: Duration = Duration::from_secs(1);

/// Turns signals into requests to stop.
pub(super) fn listen() -> Stop {
    let stop = Stop::default();
    // now and not in the task: it begins when we first wait for something
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    // without handlers the signals end the process, which is what they ask for
    if let (Ok(mut interrupt), Ok(mut terminate)) = signals {
        let asked = stop.clone();
        tokio::spawn(async move {
            received(&mut interrupt, &mut terminate).await;
            asked.request();
            received(&mut interrupt, &mut terminate).await;
            asked.insist();
            let _ = tokio::time::timeout(AT_ONCE_MAX, received(&mut interrupt, &mut terminate)).await;
            std::process::exit(i32::from(exit::INTERRUPTED));
        });
    }
    stop
}

async fn received(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
