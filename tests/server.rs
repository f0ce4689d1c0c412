//! The throwaway server, with real binaries: it comes up, keeps to itself, and is gone afterwards
//! whatever happens.
//!
//! What happens when an owner dies is tried on this same test binary, run again as [`owner`] in a
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

// ---- It comes up ----

#[tokio::test]
async fn it_starts_and_answers() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let client = connect(&server).await;
    assert_eq!(value(&client, "select 1::text").await, "1");
    assert!(
        value(&client, "show server_version")
            .await
            .starts_with(server.version())
    );
    assert_eq!(value(&client, "select current_user::text").await, "postgres");
    assert_eq!(value(&client, "show server_encoding").await, "UTF8");
    assert_eq!(value(&client, "show listen_addresses").await, "");
    assert_eq!(
        value(&client, "show data_directory").await,
        server.data_dir().to_str().unwrap()
    );
    assert!(server.dir().starts_with(base.path()));
    println!("{:?}", server.start_times());
    server.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

#[tokio::test]
async fn its_url_works_for_clients_and_psql() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "select 'here'").await, "here");

    let psql = format!("{} -X -A -t -c 'select 6 * 7'", server.psql());
    // Not even a PGPORT leads it astray.
    let output = Command::new("sh")
        .args(["-c", &psql])
        .env("PGPORT", "1")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{psql}");
}

#[tokio::test]
async fn it_works_below_a_directory_with_a_space() {
    let base = base();
    let spaced = base.path().join("with space");
    fs::create_dir(&spaced).unwrap();
    let server = Server::start(&options(&spaced)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "select 1::text").await, "1");
    let output = Command::new("sh")
        .args(["-c", &format!("{} -X -c 'select 1'", server.psql())])
        .output()
        .unwrap();
    assert!(output.status.success());
    drop(server);
    assert!(is_empty(&spaced));
}

#[tokio::test]
async fn settings_of_the_caller_win() {
    let base = base();
    let settings = [("deadlock_timeout", "50ms"), ("application_name", "it's, a \"name\"")];
    let server = Server::start(&Options {
        max_connections: 321,
        settings: settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        ..options(base.path())
    })
    .await
    .unwrap();
    let client = connect(&server).await;
    assert_eq!(value(&client, "show max_connections").await, "321");
    assert_eq!(value(&client, "show deadlock_timeout").await, "50ms");
    assert_eq!(value(&client, "show application_name").await, "it's, a \"name\"");
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_told_with_the_log() {
    let base = base();
    let error = Server::start(&Options {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        cache_dir: Some(base.path().join("cache")),
        ..options(base.path())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ServerError::Exited { .. }));
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "the cache only");
}

#[tokio::test]
async fn a_directory_without_binaries_is_told() {
    let base = base();
    let error = Server::start(&Options {
        bin_dir: Some(base.path().to_owned()),
        ..options(base.path())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ServerError::BadBinaries { .. }));
    assert!(error.to_string().contains(base.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn it_runs_as_an_ordinary_user_with_no_groups_of_ours() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", server.postmaster_pid())) else {
        return; // only Linux tells
    };
    let field = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    assert!(field("Uid:").iter().all(|uid| *uid != 0));
    if nix::unistd::geteuid().is_root() {
        assert!(field("Gid:").iter().all(|gid| *gid != 0));
        assert!(field("Groups:").is_empty());
    }
    // Ctrl-C in our terminal is sent to our group.
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.postmaster_pid())).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, server.postmaster_pid().to_string());
}

#[tokio::test]
async fn several_do_not_disturb_each_other() {
    let base = base();
    let first = Server::start(&options(base.path())).await.unwrap();
    let second = Server::start(&options(base.path())).await.unwrap();
    let (one, two) = (connect(&first).await, connect(&second).await);
    one.batch_execute("create table only_here ()").await.unwrap();
    assert!(two.batch_execute("select from only_here").await.is_err());

    let pid = first.postmaster_pid();
    first.stop().await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(value(&two, "select 'still here'").await, "still here");
    second.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

/// Four threads, one empty cache: whoever comes second uses or discards its own.
#[test]
fn several_that_make_the_template_at_once_all_start() {
    let base = base();
    let cache = base.path().join("cache");
    let options = Options {
        cache_dir: Some(cache.clone()),
        ..options(base.path())
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let server = Server::start(&options).await.unwrap();
                    assert_eq!(value(&connect(&server).await, "select 1::text").await, "1");
                });
            });
        }
    });
    template_in(&cache);
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "the cache only");
}

// ---- The template ----

/// The one template in the cache.
fn template_in(cache: &Path) -> PathBuf {
    let entries = fs::read_dir(cache).unwrap().flatten();
    let is_template = |path: &PathBuf| path.join("complete").exists();
    let templates: Vec<_> = entries.map(|entry| entry.path()).filter(is_template).collect();
    assert_eq!(templates.len(), 1);
    templates[0].clone()
}

#[tokio::test]
async fn a_template_is_made_once_and_mended() {
    let base = base();
    let cache = base.path().join("cache");
    let options = Options {
        cache_dir: Some(cache.clone()),
        ..options(base.path())
    };
    let start = async || {
        let server = Server::start(&options).await?;
        let times = server.start_times();
        println!("{times:?}");
        server.stop().await?;
        Ok::<_, ServerError>(times.data_source)
    };
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);

    // Files that did not reach the disk before the power failed.
    let control = template_in(&cache).join("data/global/pg_control");
    fs::write(&control, "").unwrap();
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);

    // Damage that only the server can see costs one start, and not every one.
    let size = fs::metadata(&control).unwrap().len();
    fs::write(&control, vec![0; usize::try_from(size).unwrap()]).unwrap();
    assert!(matches!(start().await, Err(ServerError::Exited { .. })));
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);
}

/// Every row of every system catalog, as hashes.
async fn catalogs(client: &Client) -> Vec<(String, String)> {
    let sql = "select relname::text from pg_class where relkind = 'r' \
               and relnamespace = 'pg_catalog'::regnamespace order by relname";
    let mut hashes = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("select md5(string_agg(t::text, ' ' order by t::text)) || '' from {table} t");
        let hash: Option<String> = client.query_one(&sql, &[]).await.unwrap().get(0);
        hashes.push((table, hash.unwrap_or_default()));
    }
    hashes
}

#[tokio::test]
async fn what_one_server_did_is_not_seen_by_the_next() {
    let base = base();
    let options = Options {
        cache_dir: Some(base.path().join("cache")),
        ..options(base.path())
    };
    let server = Server::start(&options).await.unwrap();
    let client = connect(&server).await;
    let fresh = catalogs(&client).await;
    for sql in [
        "create role somebody",
        "create database other",
        "create table mine as select generate_series(1, 100000)",
        "alter system set work_mem = '1MB'",
        "alter database postgres set work_mem = '2MB'",
        "create function f() returns int language sql as 'select 1'",
        "delete from pg_catalog.pg_description",
        "vacuum full pg_class",
        "checkpoint",
        "select pg_switch_wal()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    assert_ne!(catalogs(&client).await, fresh);
    server.stop().await.unwrap();

    let server = Server::start(&options).await.unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Spare);
    let client = connect(&server).await;
    assert_eq!(catalogs(&client).await, fresh);
    assert_eq!(value(&client, "show work_mem").await, "4MB");
}

#[tokio::test]
async fn data_of_a_server_that_ended_by_itself_is_not_used_again() {
    let base = base();
    let cache = base.path().join("cache");
    let options = Options {
        cache_dir: Some(cache.clone()),
        ..options(base.path())
    };
    let server = Server::start(&options).await.unwrap();
    // Not SIGKILL, after which its shared memory would stay.
    kill(server.postmaster_pid(), Signal::SIGQUIT);
    within(PATIENCE, "the server gone", || !is_alive(server.postmaster_pid()));
    server.stop().await.unwrap();
    let server = Server::start(&options).await.unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Template);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_does_not_matter() {
    let base = base();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    let server = Server::start(&Options {
        cache_dir: Some(file.join("below")),
        ..options(base.path())
    })
    .await
    .unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Initdb);
}

// ---- It is gone afterwards ----

#[tokio::test]
async fn dropping_it_leaves_nothing() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let client = connect(&server).await;
    let busy = tokio::spawn(async move { client.batch_execute("select pg_sleep(100)").await });
    tokio::task::yield_now().await;

    let (dir, pids, guard) = (server.dir().to_owned(), pids_of(server.dir()), guard_of(server.dir()));
    assert!(pids.contains(&server.postmaster_pid()));
    drop(server);
    assert!(!dir.exists());
    let left: Vec<_> = processes()
        .into_iter()
        // Not even a zombie.
        .filter(|process| pids.contains(&process.pid) || process.pid == guard)
        .map(|process| process.command)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(busy.await.unwrap().is_err());
}

#[test]
fn a_panic_leaves_nothing() {
    let base = base();
    let path = base.path().to_owned();
    let panicked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _server = Server::start(&options(&path)).await.unwrap();
            panic!("on purpose");
        });
    });
    assert!(panicked.join().is_err());
    assert!(is_empty(base.path()));
}

#[test]
fn an_abandoned_start_leaves_nothing() {
    let base = base();
    let options = Options {
        cache_dir: Some(base.path().join("cache")),
        ..options(base.path())
    };
    // From before the first step, through initdb, the copy and the start, to after the end.
    for wait_ms in [0, 5, 20, 50, 100, 200, 400] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let limit = Duration::from_millis(wait_ms);
            let _ = tokio::time::timeout(limit, Server::start(&options)).await;
        });
        // Waits for what runs beside the runtime.
        drop(runtime);
        let left: Vec<_> = fs::read_dir(base.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.iter().all(|name| name == "cache"), "after {wait_ms} ms: {left:?}");
        assert!(pids_of(base.path()).is_empty(), "after {wait_ms} ms");
    }
}

/// A process that owns a server, with sessions that sleep and one that is busy.
struct Owner {
    process: Child,
    dir: PathBuf,
    /// The processes of its server.
    pids: BTreeSet<u32>,
}

impl Owner {
    fn start(base: &Path, mode: &str) -> Owner {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner", "--ignored", "--nocapture"])
            .env("DB_RACE_TEST_OWNER", base)
            .env("DB_RACE_TEST_MODE", mode)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let dir = output
            .lines()
            .map(Result::unwrap)
            .find_map(|line| line.split_once("owner of ").map(|(_, dir)| PathBuf::from(dir)))
            .expect("the owner did not start");
        let pids = pids_of(&dir);
        assert!(!pids.is_empty());
        Owner { process, dir, pids }
    }

    /// Sends a signal to the owner, or to its whole process group as a terminal does.
    fn signal(&mut self, signal: Signal, to_group: bool) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        if to_group {
            signal::killpg(pid, signal).unwrap();
        } else {
            signal::kill(pid, signal).unwrap();
        }
        self.process.wait().unwrap();
    }

    fn is_gone(&self) -> bool {
        !self.dir.exists() && self.pids.iter().all(|pid| !is_alive(*pid)) && pids_of(&self.dir).is_empty()
    }
}

/// Not a test: the process that is killed by the tests below.
#[test]
#[ignore = "run by other tests"]
fn owner() {
    let Some(base) = std::env::var_os("DB_RACE_TEST_OWNER") else {
        return;
    };
    let mode = std::env::var("DB_RACE_TEST_MODE").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::start(&options(Path::new(&base))).await.unwrap();
        let mut sessions = Vec::new();
        for sql in ["select pg_sleep(1000)", "do $$ begin loop end loop; end $$"] {
            let client = connect(&server).await;
            sessions.push(tokio::spawn(async move { client.batch_execute(sql).await }));
        }
        let watcher = connect(&server).await;
        let busy = "select count(*)::text from pg_stat_activity \
                    where backend_type = 'client backend' and state = 'active' \
                    and pid <> pg_backend_pid()";
        while value(&watcher, busy).await != "2" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("owner of {}", server.dir().display());
        match mode.as_str() {
            "wait" => std::future::pending().await,
            "stop" => server.stop().await.unwrap(),
            "exit" => std::process::exit(0),
            _ => panic!("{mode}"),
        }
        // Not even one to be reaped; `ps` itself is one.
        let children: Vec<_> = processes()
            .into_iter()
            .filter(|process| process.parent == std::process::id())
            .map(|process| process.command)
            .collect();
        assert!(children.len() == 1 && children[0].starts_with("ps "), "{children:?}");
        println!("no children");
    });
}

#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    let base = base();
    let mut owner = Owner::start(base.path(), "wait");
    owner.signal(Signal::SIGKILL, false);
    let died = Instant::now();
    within(GONE_AT_MOST, "server and directory gone", || owner.is_gone());
    println!("gone {:?} after the kill", died.elapsed());
    assert!(is_empty(base.path()));
}

#[test]
fn an_owner_whose_process_group_is_signalled_leaves_nothing() {
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let base = base();
        let mut owner = Owner::start(base.path(), "wait");
        owner.signal(signal, true);
        within(GONE_AT_MOST, "server and directory gone", || owner.is_gone());
        assert!(is_empty(base.path()));
    }
}

#[test]
fn an_owner_that_exits_without_destructors_leaves_nothing() {
    let base = base();
    let mut owner = Owner::start(base.path(), "exit");
    owner.process.wait().unwrap();
    within(GONE_AT_MOST, "server and directory gone", || owner.is_gone());
    assert!(is_empty(base.path()));
}

#[test]
fn an_owner_that_stops_leaves_no_children() {
    let base = base();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored", "--nocapture"])
        .env("DB_RACE_TEST_OWNER", base.path())
        .env("DB_RACE_TEST_MODE", "stop")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("no children"), "{output}");
    assert!(is_empty(base.path()));
}

#[test]
fn a_guard_that_is_asked_to_end_stays() {
    let base = base();
    let mut owner = Owner::start(base.path(), "wait");
    let guard = guard_of(&owner.dir);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        kill(guard, signal);
    }
    owner.signal(Signal::SIGKILL, false);
    within(GONE_AT_MOST, "server and directory gone", || owner.is_gone());
}

#[tokio::test]
async fn a_server_whose_guard_was_killed_still_stops() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    kill(guard_of(server.dir()), Signal::SIGKILL);
    server.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

#[tokio::test]
async fn the_next_start_sweeps_what_nobody_could_clear_away() {
    let base = base();
    let mut owner = Owner::start(base.path(), "wait");
    kill(guard_of(&owner.dir), Signal::SIGKILL);
    owner.signal(Signal::SIGKILL, false);
    // The guard was the last that could have done something. The idle session ends by itself.
    assert!(owner.dir.exists() && !pids_of(&owner.dir).is_empty());

    let server = Server::start(&options(base.path())).await.unwrap();
    within(PATIENCE, "the leftover gone", || owner.is_gone());
    assert_eq!(value(&connect(&server).await, "select 1::text").await, "1");
    server.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

#[tokio::test]
async fn a_server_that_ended_by_itself_is_cleared_away() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    // Not SIGKILL, after which its shared memory would stay.
    kill(server.postmaster_pid(), Signal::SIGQUIT);
    within(PATIENCE, "the server gone", || !is_alive(server.postmaster_pid()));
    server.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

/// Killed at any moment of its start: no process stays (`initdb` may finish a step first), and what
/// is on disk is swept at last by the next start.
#[test]
fn a_start_that_is_killed_leaves_nothing_for_long() {
    let base = base();
    for round in 0..10 {
        // With initdb in every other start.
        let cache = if round % 2 == 0 {
            "cache".to_owned()
        } else {
            format!("cache-{round}")
        };
        let wait_ms = round * 20;
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner", "--ignored"])
            .env("DB_RACE_TEST_OWNER", base.path())
            .env("DB_RACE_TEST_MODE", "wait")
            .env("DB_RACE_CACHE", base.path().join(cache))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(wait_ms));
        process.kill().unwrap();
        process.wait().unwrap();
        within(PATIENCE, &format!("gone after {wait_ms} ms"), || {
            pids_of(base.path()).is_empty()
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        Server::start(&options(base.path()))
            .await
            .unwrap()
            .stop()
            .await
            .unwrap();
    });
    let left: Vec<_> = fs::read_dir(base.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| name.to_string_lossy().starts_with("cache")),
        "{left:?}"
    );
}
