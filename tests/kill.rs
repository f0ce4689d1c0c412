//! However a run ends, no PostgreSQL of it stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::processes::{is_alive, postgres_in};
use common::run::{Run, Running};
use common::{Sandbox, connect_to_run, wait_for, wait_until};
use nix::sys::signal::Signal;

/// Starts a race that goes on, and waits until its sessions race. Gives its run directory, too.
fn start_racing(sandbox: &Sandbox) -> (Running, PathBuf) {
    let run = sandbox.start("contend last-room --rounds 10000 --sessions 20");
    let mine = format!("db-race-{}-", run.pid());
    let dir = wait_for("a run directory", Duration::from_secs(30), || {
        let mut dirs = sandbox.run_dirs().into_iter();
        dirs.find(|dir| dir.file_name().unwrap().to_string_lossy().starts_with(&mine))
    });
    let server = wait_for("a server", Duration::from_secs(30), || connect_to_run(&dir));
    let waiting = "(select count(*) from pg_stat_activity \
                   where application_name = 'db-race/session' and wait_event_type = 'Lock')";
    wait_until("a race", Duration::from_secs(30), || {
        server.is(&format!("{waiting} >= 5"))
    });
    (run, dir)
}

#[test]
fn after_kill_9_in_the_middle_of_a_race_nothing_runs_two_seconds_later() {
    let sandbox = Sandbox::new();
    let (run, dir) = start_racing(&sandbox);
    let processes = postgres_in(&dir);
    assert!(!processes.is_empty());
    #[cfg(target_os = "linux")]
    assert!(processes.len() > 20, "the sessions' processes are seen: {processes:?}");

    run.signal(Signal::SIGKILL);
    assert_eq!(run.wait().code, None, "it was killed");
    wait_until("no process of the run is left", Duration::from_secs(2), || {
        !processes.iter().any(|pid| is_alive(*pid)) && postgres_in(&dir).is_empty()
    });
    wait_until("its directory is gone", Duration::from_secs(5), || !dir.exists());
}

#[test]
fn what_a_killed_guard_leaves_the_next_run_sweeps_up() {
    let sandbox = Sandbox::new();
    let (run, dir) = start_racing(&sandbox);
    let processes = postgres_in(&dir);
    // the worst case: the run and its guard are killed together, the server goes on
    let guard = guard_of(run.pid());
    common::signal(guard, Signal::SIGKILL);
    run.signal(Signal::SIGKILL);
    run.wait();
    assert!(dir.exists(), "the premise: nobody has cleared away");
    assert!(processes.iter().any(|pid| is_alive(*pid)));

    sandbox.run("verify hotel/orphan_holds").exits(0);
    assert!(!dir.exists());
    wait_until("no process is left", Duration::from_secs(2), || {
        !processes.iter().any(|pid| is_alive(*pid))
    });
}

#[test]
fn kill_9_at_any_moment_leaves_nothing() {
    let sandbox = Sandbox::new();
    // from before its first directory, through the start of the server, into the race
    for after_ms in [1, 5, 10, 20, 40, 80, 120, 160, 240, 320, 480, 640] {
        let run = sandbox.start("contend last-room --rounds 10000 --sessions 20");
        std::thread::sleep(Duration::from_millis(after_ms));
        run.signal(Signal::SIGKILL);
        run.wait();
        wait_until("no process is left", Duration::from_secs(5), || {
            postgres_in(&sandbox.temp_dir()).is_empty()
        });
        // between its making and the guard's start there is an empty directory, which the next run sweeps up
        let is_empty = |dir: &PathBuf| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        wait_until("nothing is on disk", Duration::from_secs(5), || {
            sandbox.run_dirs().iter().all(is_empty)
        });
    }
    sandbox.run("verify hotel/orphan_holds").exits(0);
}

#[test]
fn when_the_server_dies_the_race_breaks_off_and_says_so() {
    let sandbox = Sandbox::new();
    for how in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGKILL] {
        let (run, dir) = start_racing(&sandbox);
        let pid_file = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
        common::signal(pid_file.lines().next().unwrap().parse().unwrap(), how);
        let run = run.wait_at_most(Duration::from_secs(30)).exits(3);
        assert!(
            run.stdout.contains("INCONCLUSIVE") && run.stdout.contains("broke off"),
            "{how}\n{run}"
        );
        sandbox.assert_nothing_left();
    }
}

/// The shell that a run has started.
fn guard_of(pid: u32) -> u32 {
    let output = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,args="])
        .output()
        .expect("ps");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_guard = |line: &&str| line.split_whitespace().nth(1) == Some(&pid.to_string()) && line.contains("/bin/sh");
    let line = output
        .lines()
        .find(is_guard)
        .unwrap_or_else(|| panic!("no guard of {pid}\n{output}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn several_runs_at_once_do_not_disturb_each_other() {
    let sandbox = Sandbox::new();
    let (killed, dir) = start_racing(&sandbox);
    let words = [
        ("contend last-room --rounds 2 --format json", 0),
        ("contend last-room --rounds 2 --bug unlocked-read --format json", 2),
        ("verify hotel --format json", 0),
    ];
    let runs: Vec<(Running, i32)> = words
        .iter()
        .map(|(words, code)| (sandbox.start(words), *code))
        .collect();
    // one dies in their midst
    killed.signal(Signal::SIGKILL);
    killed.wait();
    for (run, code) in runs {
        run.wait().exits(code).json();
    }
    wait_until("the killed one's directory is gone", Duration::from_secs(5), || {
        !dir.exists()
    });
    sandbox.assert_nothing_left();
}

#[test]
fn sigterm_ends_a_run_as_ctrl_c_does() {
    let sandbox = Sandbox::new();
    let (run, _) = start_racing(&sandbox);
    run.signal(Signal::SIGTERM);
    run.wait_at_most(Duration::from_secs(20))
        .exits(130)
        .shows(&["last-room"]);
    sandbox.assert_nothing_left();
}

#[test]
fn who_presses_ctrl_c_twice_does_not_wait() {
    let sandbox = Sandbox::new();
    let (run, dir) = start_racing(&sandbox);
    let processes = postgres_in(&dir);
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGINT);
    run.wait_at_most(Duration::from_secs(20)).exits(130);
    wait_until("nothing of it runs", Duration::from_secs(5), || {
        !processes.iter().any(|pid| is_alive(*pid)) && !dir.exists()
    });
}

#[test]
fn a_server_runs_until_ctrl_c_and_says_how_to_reach_it() {
    let sandbox = Sandbox::new();
    let run = sandbox.start("server hotel --bug unlocked-read");
    let dir = wait_for("a run directory", Duration::from_secs(30), || sandbox.run_dirs().pop());
    let server = wait_for("a server", Duration::from_secs(30), || connect_to_run(&dir));
    let has = |function: &str| {
        format!("exists (select from pg_proc where proname = '{function}' and prosrc like '%mistake%')")
    };
    wait_until("the bug is installed", Duration::from_secs(30), || {
        server.is(&has("create_booking_hold"))
    });
    assert!(!server.is(&has("confirm_booking")), "one procedure is replaced");
    assert_eq!(
        server.value("select count(*) from room_types"),
        "3",
        "the system is there with its seed"
    );
    drop(server);
    run.signal(Signal::SIGINT);
    let run: Run = run.wait_at_most(Duration::from_secs(20)).exits(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("postgresql://postgres@/postgres?host="), "{run}");
    assert!(
        lines[1].contains("psql") && lines[1].contains(&dir.display().to_string()),
        "{run}"
    );
    sandbox.assert_nothing_left();
}
