//! SIGINT and SIGTERM: the first asks a run to stop, the second not to wait for anything.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{exit, output};
use crate::stop::Stop;

/// How long the end may take that was asked for twice: the throwaway server's guard cleans up behind us ...
const AT_ONCE_MAX: Duration = Duration::from_secs(1);
/// ... and on a server of the user's nobody does.
const AT_ONCE_THERE_MAX: Duration = Duration::from_secs(3);

/// Turns signals into requests to stop a run, on a server of the user's or on one of its own.
///
/// They are heard by a thread of their own: also while everything else is busy with ending.
pub(super) fn listen(is_users_server: bool) -> Stop {
    let stop = Stop::default();
    // without handlers the signals end the process, which is what they ask for
    if let Ok((runtime, signals)) = handlers() {
        let asked = stop.clone();
        let at_once_max = match is_users_server {
            true => AT_ONCE_THERE_MAX,
            false => AT_ONCE_MAX,
        };
        thread::spawn(move || runtime.block_on(hear(signals, &asked, at_once_max)));
    }
    stop
}

type Signals = [Signal; 2];

fn handlers() -> io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    drop(within);
    Ok((runtime, signals))
}

async fn hear(mut signals: Signals, stop: &Stop, at_once_max: Duration) {
    received(&mut signals).await;
    stop.request();
    received(&mut signals).await;
    stop.insist();
    // a third one doesn't wait for that either
    let _ = tokio::time::timeout(at_once_max, received(&mut signals)).await;
    if io::stderr().is_terminal() {
        // below the progress line
        output::note("");
    }
    output::note("interrupted; ended at once, without a report");
    std::process::exit(i32::from(exit::INTERRUPTED));
}

async fn received([interrupt, terminate]: &mut Signals) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
