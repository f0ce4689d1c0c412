//! SIGINT and SIGTERM: the first asks a run to stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

use super::exit;
use crate::stop::Stop;

/// Turns signals into requests to stop.
pub(super) fn listen() -> Stop {
    let stop = Stop::default();
    let asked = stop.clone();
    tokio::spawn(async move {
        received().await;
        asked.request();
        received().await;
        // the throwaway server's guard cleans up behind us
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
    stop
}

async fn received() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // without handlers the signals end the process, which is what they ask for
        _ => std::future::pending().await,
    }
}
