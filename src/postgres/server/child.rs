//! Child processes that are waited for with a bound.

use std::io;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Waits for the child to end, and reaps it; none when it still runs after `at_most`.
pub(super) fn wait(child: &mut Child, at_most: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + at_most;
    // What ends soon is noticed soon.
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Sends a signal to a child that has not been reaped yet, so that its pid is certainly its own.
pub(super) fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = signal::kill(Pid::from_raw(pid), signal);
    }
}

/// The same for a child that leads its process group, and all that it has started.
pub(super) fn signal_group(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = signal::killpg(Pid::from_raw(pid), signal);
    }
}
