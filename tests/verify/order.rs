//! In which order checks are begun.

use std::time::Duration;

use db_race::postgres::server::Options;

use crate::common::{Sandbox, TestServer, wait_until};
use crate::{check, of};

/// As `--jobs` has it; larger machines always have cores left.
const JOBS_MAX: usize = 64;

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

#[test]
fn a_check_has_one_process_while_all_cores_have_others_to_do() {
    let sandbox = Sandbox::new();
    let spread = "max_parallel_workers_per_gather";
    let options = Options {
        settings: vec![(spread.into(), "7".into())],
        ..Options::default()
    };
    let server = sandbox.listening_server(options);
    let jobs = std::thread::available_parallelism().unwrap().get().max(2);
    if jobs > JOBS_MAX {
        return;
    }
    let ids: Vec<String> = (0..2 * jobs).map(|n| format!("c{n:03}")).collect();
    for id in &ids {
        let sql = format!("select current_setting('{spread}') as id");
        sandbox.write(&format!("checks/{id}.sql"), &check(id, "", &sql));
    }
    let processes = |url: &str, jobs: usize| -> Vec<String> {
        let report = sandbox
            .run(&format!("verify checks --url {url} --jobs {jobs} --format json"))
            .exits(2)
            .json();
        let key = |id: &String| {
            of(&report, id)["findings"][0]["row"][0][1]
                .as_str()
                .expect(id)
                .to_string()
        };
        ids.iter().map(key).collect()
    };
    let (alone, spread) = (vec!["0".to_string(); jobs + 1], vec!["7".to_string(); jobs - 1]);
    assert_eq!(processes(&server.url(), jobs), [alone, spread].concat());
    // one worker leaves cores free, and nobody knows how many another machine has
    let all = vec!["7".to_string(); 2 * jobs];
    assert_eq!(processes(&server.url(), 1), all);
    let port = server.port();
    let far = format!("postgresql://postgres@127.0.0.1:{port}/postgres");
    assert_eq!(processes(&far, jobs), all);
}
