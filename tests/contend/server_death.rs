//! A server that dies in the middle of a run.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{Sandbox, signal, wait_until};

/// Half a minute, in a transaction, with retries, and starts at a rate.
const LONG: &str = r#"
title = "t"
[keys]
sql = "select id from things"
[[sessions]]
name        = "work"
sessions    = 5
schedule    = { kind = "constant", duration = "30s" }
transaction = true
retry       = { times = 3, on = ["40001", "57P01"], backoff = "10ms" }
steps       = [
    { name = "write", sql = "update things set n = n + 1 where id = :id" },
    { name = "slow", sql = "select pg_sleep(0.01)" },
]
[[sessions]]
name     = "nap"
sessions = 3
schedule = { kind = "constant-rate", rate = "50/s", duration = "30s" }
steps    = [{ name = "sleep", sql = "select pg_sleep(0.02)" }]
[expect]
"attempts.accepted" = ">= 100000"
"work.accepted"     = "rate > 99.99%"
"#;

#[test]
fn a_run_ends_soon_after_its_server_and_tells_what_it_had_measured() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("long.toml", LONG);
    // a fast shutdown, an immediate one, and none at all
    for how in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
        let server = sandbox.server();
        server.exec("create table things (id int primary key, n int); insert into things values (1, 0)");
        let postmaster = server.value("select pg_read_file('postmaster.pid')");
        let postmaster = postmaster.lines().next().unwrap().parse().unwrap();
        let run = sandbox.start(&format!(
            "contend {file} --url {} --format json --no-control",
            server.url()
        ));
        wait_until("it races", Duration::from_secs(30), || {
            server.is("exists (select from things where n >= 30)")
        });
        let killed = Instant::now();
        signal(postmaster, how);
        let run = run.wait_at_most(Duration::from_secs(40)).exits(3);
        let took = killed.elapsed();
        assert!(
            took < Duration::from_secs(2),
            "{how}: it ended {took:?} after the server"
        );
        let report = run.json();
        assert_eq!(report["verdict"]["outcome"], "inconclusive", "{run}");
        let why = report["race"]["cut_short"].as_str().unwrap();
        assert!(why.contains("the connection to the server was lost"), "{why}");
        let attempts = &report["race"]["attempts"];
        assert!(attempts["accepted"].as_u64().unwrap() >= 30, "{attempts}");
        assert!((1..=8).contains(&attempts["in_doubt"].as_u64().unwrap()), "{attempts}");
        assert_eq!(attempts["refused"], 0, "{attempts}");
        assert_eq!(attempts["error"], 0, "{attempts}");
        let group = &report["race"]["group_results"][0];
        assert!(group["latency"].to_string().contains("p99_ms"), "{group}");
        assert!(
            report["race"]["rounds"][0]["duration_ms"].as_f64().unwrap() > 100.0,
            "{run}"
        );
    }
}
