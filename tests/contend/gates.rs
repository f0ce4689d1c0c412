//! What holds the sessions so that they strike together.

use super::{list, outcomes};
use crate::common::Sandbox;

#[test]
fn the_write_gate_holds_all_who_did_not_lock_at_their_first_write() {
    let sandbox = Sandbox::new();
    let report = sandbox
        .run("contend last-room --bug unlocked-read --sessions 10 --rounds 2 --format json")
        .exits(2)
        .json();
    assert_eq!(report["race"]["groups"][0]["gate"], "write");
    let tables = list(&report["race"]["gate_tables"]);
    assert!(
        tables.contains(&"public.room_inventory".into()),
        "the dry call finds what is written: {tables:?}"
    );
    for round in list(&report["race"]["rounds"]) {
        let [wave] = list(&round["waves"]) else {
            panic!("{round:#}")
        };
        assert_eq!(
            (&wave["sessions"], &wave["held"], &wave["behind_others"]),
            (&10.into(), &10.into(), &0.into())
        );
        assert_eq!(wave["deadline"], false);
        assert_eq!(round["keys"][0]["outcomes"]["accepted"], 10, "all act on what they saw");
    }
}

#[test]
fn the_write_gate_holds_the_first_of_those_who_lock_and_the_rest_behind_its_row() {
    let sandbox = Sandbox::new();
    let report = sandbox
        .run("contend last-room --sessions 10 --rounds 2 --format json")
        .exits(0)
        .json();
    for round in list(&report["race"]["rounds"]) {
        let [wave] = list(&round["waves"]) else {
            panic!("{round:#}")
        };
        assert_eq!(
            (&wave["sessions"], &wave["held"], &wave["behind_others"]),
            (&10.into(), &10.into(), &9.into())
        );
        assert_eq!(outcomes(&round["attempts"]), [("accepted", 1), ("rejected", 9)]);
    }
}

#[test]
fn the_start_gate_lets_all_go_at_once_and_measures_how_well() {
    let sandbox = Sandbox::new();
    let command = "contend last-room --gate start --sessions 10 --rounds 2";
    let report = sandbox.run(&format!("{command} --format json")).exits(0).json();
    assert_eq!(report["race"]["groups"][0]["gate"], "start");
    for round in list(&report["race"]["rounds"]) {
        let [wave] = list(&round["waves"]) else {
            panic!("{round:#}")
        };
        assert_eq!(
            (&wave["gate"], &wave["sessions"], &wave["held"]),
            (&"start".into(), &10.into(), &10.into())
        );
        let skew_us = wave["skew_us"].as_u64().expect("a skew");
        assert!(skew_us < 1_000_000, "{skew_us} µs is no start at once");
    }
    sandbox.run(command).exits(0).shows(&["first to last start"]);
}

#[test]
fn without_a_gate_nobody_is_held() {
    let sandbox = Sandbox::new();
    let report = sandbox
        .run("contend last-room --gate none --rounds 2 --format json")
        .exits(0)
        .json();
    assert_eq!(report["race"]["groups"][0]["gate"], "none");
    for round in list(&report["race"]["rounds"]) {
        assert_eq!(list(&round["waves"]).len(), 0);
        assert_eq!(outcomes(&round["attempts"]), [("accepted", 1), ("rejected", 49)]);
    }
}

#[test]
fn every_gate_works_with_fewer_connections_than_sessions() {
    let sandbox = Sandbox::new();
    for gate in ["none", "start", "write"] {
        let report = sandbox
            .run(&format!(
                "contend last-room --gate {gate} --pool 3 --sessions 10 --rounds 1 --format json"
            ))
            .exits(0)
            .json();
        assert_eq!(
            outcomes(&report["race"]["attempts"]),
            [("accepted", 1), ("rejected", 9)],
            "{gate}"
        );
        for wave in list(&report["race"]["rounds"][0]["waves"]) {
            assert!(wave["sessions"].as_u64().unwrap() <= 3, "{wave}");
            assert_eq!(
                wave["deadline"], false,
                "{gate}: who waits for a connection is not waited for"
            );
        }
    }
}

#[test]
fn a_gate_is_opened_without_those_who_do_not_come() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int)");
    let file = sandbox.write(
        "late.toml",
        r#"
        title       = "Two come, one doesn't"
        gate_tables = ["t"]
        [[sessions]]
        name     = "quick"
        sessions = 2
        steps    = [{ name = "write", sql = "insert into t values (:session)" }]
        [[sessions]]
        name     = "slow"
        sessions = 1
        steps    = [{ name = "sleep", sql = "select pg_sleep(7)" }]
        "#,
    );
    let command = format!("contend {file} --url {} --no-control --format json", server.url());
    let report = sandbox.run(&command).exits(0).json();
    let [wave] = list(&report["race"]["rounds"][0]["waves"]) else {
        panic!("{report:#}")
    };
    assert_eq!(
        (&wave["sessions"], &wave["held"], &wave["deadline"]),
        (&3.into(), &2.into(), &true.into())
    );
    assert!(
        wave["closed_ms"].as_f64().unwrap() < 6_900.0,
        "it did not wait for the slow one: {wave}"
    );
    let notes = list(&report["race"]["notes"]);
    assert!(
        notes.iter().any(|note| note.as_str().unwrap().contains("deadline")),
        "{notes:?}"
    );
}

#[test]
fn the_write_gate_closes_the_tables_that_the_scenario_names() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int); create table log (id int)");
    let scenario = |tables: &str| {
        let text = format!(
            "title = \"t\"\ngate_tables = [{tables}]\n[[sessions]]\nname = \"a\"\nsessions = 2\n\
             steps = [{{ name = \"write\", sql = \"insert into t values (:session)\" }}]\n"
        );
        let file = sandbox.write("tables.toml", &text);
        sandbox.run(&format!("contend {file} --url {} --format json", server.url()))
    };
    let report = scenario("\"t\"").exits(0).json();
    assert_eq!(report["race"]["rounds"][0]["waves"][0]["held"], 2);
    let report = scenario("\"log\"").exits(0).json();
    assert_eq!(
        report["race"]["rounds"][0]["waves"][0]["held"], 0,
        "nobody writes there"
    );
    scenario("\"logg\"").exits(64).complains(&["tables.toml:2:", "logg"]);
}

#[test]
fn what_writes_nothing_gets_the_start_gate_and_a_note() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let file = sandbox.write(
        "reads.toml",
        "title = \"t\"\n[[sessions]]\nname = \"a\"\nsessions = 2\nsteps = [{ name = \"read\", sql = \"select 1\" }]\n",
    );
    let report = sandbox
        .run(&format!("contend {file} --url {} --format json", server.url()))
        .exits(0)
        .json();
    assert_eq!(report["race"]["rounds"][0]["waves"][0]["gate"], "start");
    let notes = list(&report["race"]["notes"]);
    assert!(
        notes.iter().any(|note| note.as_str().unwrap().contains("start gate")),
        "{notes:?}"
    );
}

#[test]
fn a_dry_call_that_hangs_ends_at_the_limit_of_its_step() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table t (id int primary key, n int); insert into t values (1, 0)");
    // somebody else has the row all the time
    server.exec("begin; select from t for update");
    let file = sandbox.write(
        "blocked.toml",
        r#"
        title = "t"
        [[sessions]]
        name     = "a"
        sessions = 2
        steps    = [{ name = "write", sql = "update t set n = n + 1 where id = 1", timeout = "300ms" }]
        [expect]
        "write.timeout" = "== 2"
        "#,
    );
    let run = sandbox.start(&format!("contend {file} --url {} --format json", server.url()));
    let report = run.wait_at_most(std::time::Duration::from_secs(20)).exits(0).json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [("timeout", 2)]);
    let notes = list(&report["race"]["notes"]);
    assert!(
        notes.iter().any(|note| note.as_str().unwrap().contains("dry call")),
        "{notes:?}"
    );
}
