//! How long a user waits: the throwaway server's start, and `db-race contend last-room` to its verdict.
//!
//! Medians with their range over 20 runs, after one that fills the caches.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use db_race::postgres::server::{Options, Server};

const RUNS: usize = 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    report("server: start until it answers", || {
        let started = Instant::now();
        let server = runtime.block_on(Server::start(&Options::default())).expect("a server");
        let took = started.elapsed();
        runtime.block_on(server.stop()).expect("a stop");
        took
    });
    for arguments in [
        &["contend", "last-room"][..],
        &["contend", "last-room", "--bug", "unlocked-read"],
        &["verify", "hotel"],
    ] {
        report(&format!("db-race {}", arguments.join(" ")), || {
            let started = Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_db-race"))
                .args(arguments)
                .stdout(Stdio::null())
                .status()
                .expect("db-race runs");
            assert!(matches!(status.code(), Some(0 | 2)), "{status}");
            started.elapsed()
        });
    }
}

fn report(what: &str, mut run: impl FnMut() -> Duration) {
    run();
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    println!(
        "{what:45} median {:5.0} ms   {:5.0} to {:5.0} ms",
        ms(times[RUNS / 2]),
        ms(times[0]),
        ms(times[RUNS - 1])
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
