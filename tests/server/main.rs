//! The throwaway server, with real binaries: it comes up, keeps to itself, and is gone afterwards
//! whatever happens.
//!
//! What happens when an owner dies is tried on this same test binary, run again as [`gone::owner`] in a
//! process of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use db_race::postgres::server::{DataSource, Options, Server, ServerError};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

mod comes_up;
mod gone;
mod template;

/// How long after the death of its owner a server may still be seen.
const GONE_AT_MOST: Duration = Duration::from_secs(2);
/// For anything that should happen, and has no promise to keep.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own for the servers of one test, so that nobody sweeps what another has just
/// left.
fn base() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("server-test-")
        .tempdir_in("/tmp")
        .unwrap();
    // As root, the server's user must get through.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn options(base: &Path) -> Options {
    Options {
        temp_dir: Some(base.to_owned()),
        ..Options::default()
    }
}

/// With a cache of its own, too.
fn options_with_cache(base: &Path) -> Options {
    Options {
        cache_dir: Some(base.join("cache")),
        ..options(base)
    }
}

async fn connect(server: &Server) -> Client {
    let (client, connection) = server.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn value(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits for something that must become true.
#[track_caller]
fn within(at_most: Duration, what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() >= at_most {
            for process in processes().iter().filter(|process| process.command.contains("/tmp/")) {
                println!("{} {} {}", process.pid, process.parent, process.command);
            }
            panic!("not within {at_most:?}: {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

struct Process {
    pid: u32,
    parent: u32,
    is_zombie: bool,
    command: String,
}

/// All processes, by way of `ps`, which macOS has too.
fn processes() -> Vec<Process> {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,ppid=,stat=,args="])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Process {
            pid: words.next()?.parse().ok()?,
            parent: words.next()?.parse().ok()?,
            is_zombie: words.next()?.starts_with('Z'),
            command: words.collect::<Vec<_>>().join(" "),
        })
    };
    text.lines().filter_map(parse).collect()
}

fn is_alive(pid: u32) -> bool {
    processes()
        .iter()
        .any(|process| process.pid == pid && !process.is_zombie)
}

/// Everything that works in this directory, and the children of that (backends name no directory).
fn pids_of(dir: &Path) -> BTreeSet<u32> {
    let all = processes();
    let named: BTreeSet<u32> = all
        .iter()
        .filter(|process| process.command.contains(&*dir.to_string_lossy()))
        .filter(|process| process.command.contains("postgres") || process.command.contains("initdb"))
        .map(|process| process.pid)
        .collect();
    all.iter()
        .filter(|process| !process.is_zombie)
        .filter(|process| named.contains(&process.pid) || named.contains(&process.parent))
        .map(|process| process.pid)
        .collect()
}

fn guard_of(dir: &Path) -> u32 {
    let ending = format!("db-race-guard {}", dir.display());
    let guards: Vec<u32> = processes()
        .iter()
        .filter(|process| process.command.ends_with(&ending))
        .map(|process| process.pid)
        .collect();
    assert_eq!(guards.len(), 1, "one guard for each server");
    guards[0]
}

fn is_empty(base: &Path) -> bool {
    fs::read_dir(base).unwrap().next().is_none()
}

fn kill(pid: u32, signal: Signal) {
    signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}
