//! It is gone afterwards, whatever happens to its owner.

use super::*;

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
    let options = options_with_cache(base.path());
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
            .args(["--exact", "gone::owner", "--ignored", "--nocapture"])
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
        .args(["--exact", "gone::owner", "--ignored", "--nocapture"])
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
            .args(["--exact", "gone::owner", "--ignored"])
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
