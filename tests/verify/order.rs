//! In which order checks are begun.

use std::time::Duration;

use db_race::postgres::server::Options;

use crate::check;
use crate::common::{Sandbox, TestServer, wait_until};

/// The checks in the order in which they were begun, by the server's log.
fn begun(server: &TestServer) -> Vec<String> {
    let log = server.log();
    let checks = log.split("DECLARE db_race_check").skip(1);
    let id = |entry: &str| Some(entry.split_once("-- id = \"")?.1.split_once('"')?.0.to_string());
    checks.filter_map(id).collect()
}

#[test]
fn with_several_workers_what_the_planner_takes_for_the_longest_is_begun_first() {
    let sandbox = Sandbox::new();
    let server = sandbox.server_with(Options {
        settings: vec![("log_statement".into(), "all".into())],
        ..Options::default()
    });
    // the dearest one keeps its worker until the lock is free; the other worker then does all others, one after another
    server.exec(
        "create function waits() returns int language plpgsql cost 9000000 as $$
         begin perform pg_advisory_lock_shared(42); return 1; end $$",
    );
    let costs = [
        ("b_middle", 2000),
        ("a_cheap", 1000),
        ("c_dear", 3000),
        ("e_cheapest", 500),
    ];
    for (id, cost) in costs {
        server.exec(&format!(
            "create function {id}() returns int language plpgsql cost {cost}000 as 'begin return 1; end'"
        ));
        sandbox.write(
            &format!("checks/{id}.sql"),
            &check(id, "", &format!("select {id}() as id")),
        );
    }
    sandbox.write("checks/d_dearest.sql", &check("d_dearest", "", "select waits() as id"));
    server.exec("select pg_advisory_lock(42)");
    let words = format!("verify checks --url {}", server.url());
    let run = sandbox.start(&format!("{words} --jobs 2"));
    wait_until("all checks", Duration::from_secs(20), || begun(&server).len() == 5);
    server.exec("select pg_advisory_unlock(42)");
    run.wait().exits(2);
    let of_the_other: Vec<String> = begun(&server).into_iter().filter(|id| id != "d_dearest").collect();
    assert_eq!(of_the_other, ["c_dear", "b_middle", "a_cheap", "e_cheapest"]);
    // one worker has nobody to wait for it
    sandbox.run(&format!("{words} --jobs 1")).exits(2);
    let alone = &begun(&server)[5..];
    assert_eq!(alone, ["a_cheap", "b_middle", "c_dear", "d_dearest", "e_cheapest"]);
}
