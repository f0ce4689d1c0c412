//! Who makes how many attempts, and that each round starts from the same data.

use super::list;
use crate::common::Sandbox;

/// What each session did in each round: `round/session: attempts`, the control being round 0.
fn attempts(schedule: &str, flags: &str) -> Vec<Vec<String>> {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table done (round int, session int, iteration int)");
    let text = format!(
        "title = \"t\"\nrounds = 2\n[[sessions]]\nname = \"a\"\nsessions = 3\nschedule = {schedule}\n\
         steps = [{{ name = \"note\", sql = \"insert into done values (:round, :session, :iteration)\" }}]\n"
    );
    let file = sandbox.write("schedule.toml", &text);
    sandbox
        .run(&format!("contend {file} --url {} {flags}", server.url()))
        .exits(0);
    server.rows("select round, session, count(*), max(iteration) from done group by 1, 2 order by 1, 2")
}

#[test]
fn each_session_makes_its_attempts() {
    let mut expected = Vec::new();
    for round in 0..=2 {
        for session in 1..=3 {
            expected.push([round, session, 4, 4].map(|n| n.to_string()).to_vec());
        }
    }
    assert_eq!(attempts("{ kind = \"per-session\", iterations = 4 }", ""), expected);
}

#[test]
fn all_sessions_share_the_attempts() {
    let rows = attempts("{ kind = \"shared\", iterations = 10 }", "--no-control");
    for round in ["1", "2"] {
        let of_round = rows.iter().filter(|row| row[0] == round);
        let counts: Vec<u32> = of_round.map(|row| row[2].parse().unwrap()).collect();
        assert_eq!(counts.iter().sum::<u32>(), 10, "{rows:?}");
        assert_eq!(counts.len(), 3, "nobody stands by: {rows:?}");
    }
}

#[test]
fn setup_is_run_before_the_control_and_before_each_round() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table seats (id int, taken boolean); create table setups (id int)");
    let file = sandbox.write(
        "setup.toml",
        r#"
        title  = "A seat that is free again in each round"
        rounds = 3
        setup  = "delete from seats; insert into seats values (1, false); insert into setups values (1)"
        [keys]
        sql = "select id from seats"
        [[sessions]]
        name     = "a"
        sessions = 3
        steps    = [{ name = "take", sql = "update seats set taken = true where id = :id and not taken returning 1 / 1 as took" }, { name = "sure", sql = "select :took::int" }]
        [expect]
        "sure.accepted"  = "== 1 per key"
        "attempts.error" = "== 2"
        "#,
    );
    let report = sandbox
        .run(&format!("contend {file} --url {} --format json", server.url()))
        .exits(0)
        .json();
    assert_eq!(list(&report["race"]["rounds"]).len(), 3);
    // once to prepare the statements, once for the control
    assert_eq!(server.value("select count(*) from setups"), "5");
}
