//! Deadlocks are explained: both sides of the cycle, with their rows and lines, and the mistake.

use serde_json::Value;

use super::list;
use crate::common::Sandbox;
use crate::common::database::Database;

/// Returns when two sessions are there, so that each has its first lock before any wants its second.
const MEET: &str = "
create function meet() returns void language plpgsql as $$
declare
    v_until timestamptz := clock_timestamp() + interval '10 s';
begin
    perform pg_advisory_xact_lock_shared(4711);
    while clock_timestamp() < v_until
          and (select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and granted) < 2 loop
        perform pg_sleep(0.001);
    end loop;
end $$;";

/// A deadlock of two sessions, and what must be said of each.
struct Case {
    schema: &'static str,
    call: &'static str,
    mistake: &'static str,
    name: &'static str,
    relation: &'static str,
    /// By session, from 1.
    holds: [&'static str; 2],
    wants: [&'static str; 2],
    /// How the first lock is had, where the server shows it.
    share: Option<&'static str>,
    line: &'static str,
    sql: &'static str,
    advice: &'static str,
}

const OPPOSITE_ORDER: Case = Case {
    schema: "
create table account (id int primary key, balance int not null);
insert into account values (1, 0), (2, 0);
create function transfer(p_from int, p_to int) returns void language plpgsql as $$
begin
    update account set balance = balance - 1 where id = p_from;
    perform meet();
    update account set balance = balance + 1 where id = p_to;
end $$;",
    call: "select transfer(:session, 3 - :session)",
    mistake: "opposite_order",
    name: "opposite lock order",
    relation: "account",
    holds: ["id = 1", "id = 2"],
    wants: ["id = 2", "id = 1"],
    share: None,
    line: "transfer(integer,integer) line 5 at SQL statement",
    sql: "update account set balance = balance + 1 where id = p_to",
    advice: "order by <key>",
};

const LOCK_UPGRADE: Case = Case {
    schema: "
create table room (hotel int, number text, guests int not null, primary key (hotel, number));
insert into room values (3, '12b', 0), (3, '14', 0);
create function book(p_hotel int, p_guest bigint) returns void language plpgsql as $$
begin
    perform 1 from room where hotel = p_hotel and number = '12b' for share;
    perform meet();
    update room set guests = guests + 1 where hotel = p_hotel and number = '12b';
end $$;",
    call: "select book(3, :session)",
    mistake: "lock_upgrade",
    name: "lock upgrade",
    relation: "room",
    holds: ["hotel = 3, number = 12b"; 2],
    wants: ["hotel = 3, number = 12b"; 2],
    share: Some("FOR SHARE"),
    line: "book(integer,bigint) line 5 at SQL statement",
    sql: "update room set guests = guests + 1",
    advice: "take the stronger lock at the first read",
};

const FOREIGN_KEY: Case = Case {
    schema: "
create table show (id int primary key, sold int not null);
create table ticket (id int generated always as identity primary key, show int not null references show, owner int);
insert into show values (7, 0), (8, 0);
create function sell(p_show int, p_owner int) returns void language plpgsql as $$
begin
    insert into ticket (show, owner) values (p_show, p_owner);
    perform meet();
    perform 1 from show where id = p_show for update;
    update show set sold = sold + 1 where id = p_show;
end $$;",
    call: "select sell(7, :session)",
    mistake: "foreign_key_share_lock",
    name: "foreign key share lock",
    relation: "show",
    holds: ["id = 7"; 2],
    wants: ["id = 7"; 2],
    share: Some("FOR KEY SHARE"),
    line: "sell(integer,integer) line 5 at PERFORM",
    sql: "1 from show where id = p_show for update",
    advice: "for no key update",
};

#[test]
fn rows_locked_in_opposite_orders() {
    explained(&OPPOSITE_ORDER);
}

#[test]
fn a_shared_row_lock_that_is_upgraded() {
    explained(&LOCK_UPGRADE);
}

#[test]
fn a_share_that_came_with_a_foreign_key() {
    explained(&FOREIGN_KEY);
}

#[test]
fn an_ordinary_user_sees_all_but_the_survivors_line() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create role app login; grant all on schema public to app");
    let app = Database::connect(&server.url_of("app@/postgres"));
    app.exec(&format!("{MEET}{}", OPPOSITE_ORDER.schema));
    let file = sandbox.write("case.toml", &scenario(&OPPOSITE_ORDER, ""));
    let url = server.url_of("app@/postgres");
    let command = format!("contend {file} --rounds 1 --no-control --url {url}");
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    let deadlock = &report["race"]["deadlocks"][0];
    assert_eq!(deadlock["mistake"], "opposite_order", "{deadlock:#}");
    for member in list(&deadlock["cycle"]) {
        assert!(member["key"].is_string(), "{member:#}");
        let lines = list(&member["at"]);
        assert_eq!(lines.is_empty(), member["victim"] == false, "{member:#}");
    }
    sandbox
        .run(&command)
        .exits(2)
        .shows(&["at a line that the server told nobody"]);
}

/// Two sessions that make the case's call.
fn scenario(case: &Case, system: &str) -> String {
    format!(
        "title = \"Two sessions that end in a deadlock\"\n{system}\n\
         [[sessions]]\nname = \"clerk\"\nsessions = 2\ngate = \"start\"\n\
         steps = [{{ name = \"work\", sql = \"{}\" }}]\n[expect]\ndeadlocks = \"== 0\"\n",
        case.call
    )
}

#[track_caller]
fn explained(case: &Case) {
    let sandbox = Sandbox::new();
    sandbox.write("case/schema.sql", &format!("{MEET}{}", case.schema));
    let file = sandbox.write("case.toml", &scenario(case, "system = \"case\""));
    let command = format!("contend {file} --rounds 1 --no-control");
    let report = sandbox.run(&format!("{command} --format json")).exits(2).json();
    let deadlocks = list(&report["race"]["deadlocks"]);
    let [deadlock] = deadlocks else {
        panic!("not one deadlock: {deadlocks:#?}")
    };
    told(deadlock, case);

    let run = sandbox.run(&command).exits(2);
    let mut shown = vec![case.name, case.call, "clerk 1", "clerk 2", case.advice];
    let [object_a, object_b] = case.wants.map(|key| format!("{} {key}", case.relation));
    let [row_a, row_b] = case.wants.map(|key| format!("for the row {key} of {}", case.relation));
    shown.extend([&*object_a, &*object_b, &*row_a, &*row_b]);
    shown.extend(case.share);
    let lines = run.stdout.matches(&format!("at {}", case.line)).count();
    assert_eq!(lines, 2, "each at its line\n{run}");
    assert_eq!(run.stdout.matches(case.sql).count(), 2, "each in its statement\n{run}");
    run.shows(&shown);
}

/// The report has all of it.
#[track_caller]
fn told(deadlock: &Value, case: &Case) {
    assert_eq!(deadlock["mistake"], case.mistake, "{deadlock:#}");
    assert!(
        deadlock["advice"].as_str().unwrap().contains(case.advice),
        "{deadlock:#}"
    );
    let cycle = list(&deadlock["cycle"]);
    let mut sessions: Vec<&str> = cycle.iter().map(|m| m["session"].as_str().unwrap()).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, ["clerk 1", "clerk 2"], "{deadlock:#}");
    assert_eq!(cycle.iter().filter(|m| m["victim"] == true).count(), 1, "{deadlock:#}");
    for member in cycle {
        let session: usize = member["session"]
            .as_str()
            .unwrap()
            .trim_start_matches("clerk ")
            .parse()
            .unwrap();
        assert_eq!(member["statement"], case.call, "{member:#}");
        let parameters = list(&member["parameters"]);
        assert_eq!(
            parameters[0],
            serde_json::json!(["session", session.to_string()]),
            "{member:#}"
        );
        assert_eq!(member["relation"], case.relation, "{member:#}");
        assert_eq!(member["key"], case.wants[session - 1], "{member:#}");
        let [held] = list(&member["holds"]) else {
            panic!("it holds one row: {member:#}")
        };
        assert_eq!(held["relation"], case.relation, "{member:#}");
        assert_eq!(held["key"], case.holds[session - 1], "{member:#}");
        assert_eq!(held["lock"].as_str(), case.share, "{member:#}");
        assert_eq!(member["at"][0], case.line, "{member:#}");
        assert!(member["sql"].as_str().unwrap().contains(case.sql), "{member:#}");
    }
}
