//! Who makes how many attempts, and that each round starts from the same data.

use std::time::Duration;

use super::{count, group, list, most_at_once, number, outcomes, race, server_with_work};
use crate::common::{Sandbox, wait_until};

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

#[test]
fn what_is_left_when_a_counted_schedule_has_lasted_too_long_is_dropped() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    for (kind, iterations) in [("per-session", 20), ("shared", 40)] {
        let report = race(
            &sandbox,
            &server,
            &format!(
                r#"
                [[sessions]]
                name     = "a"
                sessions = 2
                gate     = "none"
                schedule = {{ kind = "{kind}", iterations = {iterations}, duration = "400ms" }}
                steps    = [{{ name = "work", sql = "select work(:session, 0.1)" }}]
                [expect]
                dropped = "> 0"
                "#
            ),
        )
        .exits(0)
        .json();
        let (made, dropped) = (
            count(&report["race"]["attempts"]["accepted"]),
            count(&group(&report, "a")["dropped"]),
        );
        assert_eq!(made + dropped, 40, "{kind}");
        assert!(
            (2..=8).contains(&made),
            "{kind}: two sessions, four in turn at the most: {made}"
        );
        assert_eq!(report["race"]["rounds"][0]["dropped"], dropped);
        assert_eq!(group(&report, "a")["interrupted"], 0, "who had begun came to an end");
        assert_eq!(most_at_once(&server), 2, "{kind}");
        server.exec("truncate done");
    }
}

#[test]
fn an_attempt_that_is_under_way_when_the_grace_is_over_is_interrupted() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        grace    = "100ms"
        schedule = { kind = "constant", duration = "200ms" }
        steps    = [{ name = "work", sql = "select work(:session, 60)", timeout = "10m" }]
        [expect]
        interrupted = "== 2"
        "#,
    )
    .exits(3)
    .json();
    assert_eq!(outcomes(&report["race"]["attempts"]), [], "it is no outcome");
    assert_eq!(group(&report, "a")["interrupted"], 2);
    assert_eq!(super::step(&report, "work")["latency"], serde_json::Value::Null);
    let took = number(&report["race"]["rounds"][0]["duration_ms"]);
    assert!((300.0..10_000.0).contains(&took), "{took}");
    let asleep = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep')";
    wait_until("nobody works on", Duration::from_secs(10), || {
        server.is(&format!("{asleep} = 0"))
    });
}

#[test]
fn constant_sessions_go_on_for_as_long_as_they_should_and_end_what_they_began() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 3
        schedule = { kind = "constant", duration = "1s" }
        steps    = [{ name = "work", sql = "select work(:session, 0.09)" }]
        "#,
    )
    .exits(0)
    .json();
    let made = count(&report["race"]["attempts"]["accepted"]);
    assert_eq!(server.value("select count(*) from done"), made.to_string());
    assert!((6..=36).contains(&made), "{made}");
    assert_eq!(most_at_once(&server), 3);
    assert_eq!(group(&report, "a")["interrupted"], 0);
    let span = number(&report["race"]["rounds"][0]["duration_ms"]);
    assert!(span >= 1_000.0, "{span}");
    assert!(
        server.is("(select max(began) - min(began) from done) < interval '1s'"),
        "nobody begins later"
    );
}

#[test]
fn ramping_adds_sessions_and_takes_them_out() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        schedule = { kind = "ramping", start = 1, stages = [
          { duration = "1s", target = 6 }, { duration = "500ms", target = 6 }, { duration = "1s", target = 0 },
        ] }
        steps    = [{ name = "work", sql = "select work(:session, 0.01)" }]
        "#,
    )
    .exits(0);
    assert_eq!(most_at_once(&server), 6);
    let rows = server.rows(
        "select session, extract(epoch from min(began) - min(min(began)) over ()),
                extract(epoch from max(began) - min(min(began)) over ())
         from done group by session order by session",
    );
    assert_eq!(rows.len(), 6);
    for row in rows {
        let [n, came, went] = [0, 1, 2].map(|i| row[i].parse::<f64>().unwrap());
        // the level is 1 + 5t, and later 6 - 6t
        let (comes, goes) = ((n - 1.0) / 5.0, 1.5 + (6.0 - n) / 6.0);
        assert!(
            (comes - 0.05..comes + 0.25).contains(&came),
            "session {n} came at {came}, due at {comes}"
        );
        assert!(
            (goes - 0.3..goes + 0.25).contains(&went),
            "session {n} last began at {went}, out at {goes}"
        );
    }
}

#[test]
fn a_session_that_is_taken_out_may_end_its_attempt_within_ramp_down() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    for (ramp_down, ended) in [("10s", true), ("100ms", false)] {
        let report = race(
            &sandbox,
            &server,
            &format!(
                r#"
                [[sessions]]
                name     = "a"
                schedule = {{ kind = "ramping", start = 2, ramp_down = "{ramp_down}", stages = [
                  {{ duration = "300ms", target = 2 }}, {{ duration = "0s", target = 1 }}, {{ duration = "1500ms", target = 1 }},
                ] }}
                steps    = [{{ name = "work", sql = "select work(:session, 1)" }}]
                "#
            ),
        )
        .json();
        let interrupted = u64::from(!ended);
        assert_eq!(group(&report, "a")["interrupted"], interrupted, "{ramp_down}");
        let of_second = server.value("select count(*) from done where session = 2");
        assert_eq!(of_second, if ended { "1" } else { "0" }, "{ramp_down}");
        let of_first = server.value("select count(*) from done where session = 1");
        assert_eq!(
            of_first, "2",
            "it stays until the end, and may end its attempt in the grace"
        );
        server.exec("truncate done");
    }
}

#[test]
fn groups_run_side_by_side_each_from_its_own_start() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "early"
        sessions = 1
        schedule = { kind = "constant", duration = "1s" }
        steps    = [{ name = "first", sql = "select work(1, 0.02)" }]
        [[sessions]]
        name     = "late"
        sessions = 2
        start    = "500ms"
        schedule = { kind = "per-session", iterations = 3 }
        steps    = [{ name = "second", sql = "select work(2, 0.02)" }]
        [expect]
        "late.accepted" = "== 6"
        "#,
    )
    .exits(0)
    .json();
    let came = number(
        &serde_json::from_str(&server.value(
            "select extract(epoch from (select min(began) from done where session = 2)
                                 - (select min(began) from done where session = 1))",
        ))
        .unwrap(),
    );
    assert!((0.4..0.9).contains(&came), "{came}");
    assert!(
        server.is(
            "exists (select from done a join done b on a.session = 1 and b.session = 2
                           and a.began < b.ended and b.began < a.ended)"
        ),
        "at the same time"
    );
    assert_eq!(group(&report, "late")["outcomes"]["accepted"], 6);
}

#[test]
fn sessions_think_between_attempts_and_pause_between_steps() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        gate     = "none"
        think    = "100ms..150ms"
        schedule = { kind = "per-session", iterations = 3 }
        steps    = [
          { name = "one", sql = "select work(:session, 0)" },
          { name = "two", sql = "select work(:session, 0)", pause = "200ms" },
        ]
        "#,
    )
    .exits(0);
    let gaps = server.rows(
        "select extract(epoch from began - lag(ended) over (partition by session order by began)),
                row_number() over (partition by session order by began) from done",
    );
    assert_eq!(gaps.len(), 12);
    for gap in gaps.iter().filter(|gap| gap[1] != "1") {
        let seconds: f64 = gap[0].parse().unwrap();
        let at_least = if gap[1].parse::<u32>().unwrap() % 2 == 0 {
            0.2
        } else {
            0.1
        };
        assert!((at_least..at_least + 0.5).contains(&seconds), "{gap:?}");
    }
}

#[test]
fn nobody_thinks_on_when_the_schedule_is_over() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let report = race(
        &sandbox,
        &server,
        r#"
        [[sessions]]
        name     = "a"
        sessions = 2
        think    = "20s"
        schedule = { kind = "constant", duration = "300ms" }
        steps    = [{ name = "work", sql = "select work(:session, 0.1)" }]
        "#,
    )
    .exits(0)
    .json();
    assert_eq!(report["race"]["attempts"]["accepted"], 2);
    let took = number(&report["race"]["rounds"][0]["duration_ms"]);
    assert!(took < 10_000.0, "{took}");
}

#[test]
fn who_holds_the_connection_while_thinking_keeps_others_from_it() {
    let sandbox = Sandbox::new();
    let server = server_with_work(&sandbox);
    let least_gap = "select min(gap) from (select extract(epoch from began - lag(ended) over (order by began)) as gap
                     from done) as gaps";
    for hold in [true, false] {
        race(
            &sandbox,
            &server,
            &format!(
                r#"
                [pool]
                size = 1
                [[sessions]]
                name     = "a"
                sessions = 2
                gate     = "none"
                think    = "200ms"
                hold     = {hold}
                schedule = {{ kind = "per-session", iterations = 2 }}
                steps    = [{{ name = "work", sql = "select work(:session, 0)" }}]
                "#
            ),
        );
        let least: f64 = server.value(least_gap).parse().unwrap();
        assert_eq!(least >= 0.2, hold, "hold = {hold}: {least} s");
        server.exec("truncate done");
    }
}
