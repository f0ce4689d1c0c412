//! Ctrl-C while everything hangs.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::database::Database;
use crate::common::{Sandbox, wait_until};

/// The grace that statements get, and what a busy machine needs for the rest.
const END_AT_MOST: Duration = Duration::from_secs(3);

/// What hangs: a group, what stands before it in the file, and how the server shows that it hangs.
struct Hang {
    what: &'static str,
    before: &'static str,
    group: &'static str,
    flags: &'static str,
    /// What a foreign session does first, and doesn't commit.
    foreign: &'static str,
    shows: &'static str,
    /// What the foreign session does then, so that others wait for a table.
    then: &'static str,
}

const SLEEPS: &str = "(select count(*) from pg_stat_activity where wait_event = 'PgSleep') >= 1";
const WAITS: &str = "exists (select from pg_locks where not granted)";
const CONNECTED: &str = "(select count(*) from pg_stat_activity where application_name = 'db-race/session') >= 1";
/// A step that was committed, so the session is behind it.
const NOTED: &str = "exists (select from notes)";
const NOTE: &str = "steps = [{ name = \"note\", sql = \"insert into notes values (1)\" }]";

const PLAIN: Hang = Hang {
    what: "",
    before: "",
    group: NOTE,
    flags: "--gate none --no-control",
    foreign: "",
    shows: SLEEPS,
    then: "",
};

const HANGS: [Hang; 12] = [
    Hang {
        what: "a statement",
        group: "steps = [{ name = \"nap\", sql = \"select pg_sleep(600)\", timeout = \"10m\" }]",
        ..PLAIN
    },
    Hang {
        what: "a statement in a transaction, with a retry",
        group: "transaction = true\nretry = { times = 5, on = [\"57014\"] }\n\
                steps = [{ name = \"nap\", sql = \"select pg_sleep(600)\", timeout = \"10m\" }]",
        ..PLAIN
    },
    Hang {
        what: "behind a foreign lock",
        group: "steps = [{ name = \"write\", sql = \"update things set name = 'x'\", timeout = \"10m\" }]",
        foreign: "update things set name = 'y'",
        shows: WAITS,
        ..PLAIN
    },
    Hang {
        what: "a statement that can't be prepared",
        before: "[pool]\nopen = \"on-demand\"",
        // the connections prepare what they are about to run
        group: "steps = [{ name = \"first\", sql = \"select pg_advisory_xact_lock(7)\" }, \
                         { name = \"then\", sql = \"select from things\", timeout = \"10m\" }]",
        foreign: "select pg_advisory_lock(7)",
        shows: WAITS,
        then: "lock table things; select pg_advisory_unlock(7)",
        ..PLAIN
    },
    Hang {
        what: "the gate that can't be closed",
        group: "gate = \"write\"\nsteps = [{ name = \"write\", sql = \"update things set name = 'x'\" }]",
        before: "gate_tables = [\"things\"]",
        flags: "--no-control",
        foreign: "lock table things in row exclusive mode",
        shows: WAITS,
        ..PLAIN
    },
    Hang {
        what: "a commit",
        group: "transaction = true\nsteps = [{ name = \"late\", sql = \"insert into late values (1)\" }]",
        ..PLAIN
    },
    Hang {
        what: "a pause between steps",
        group: "steps = [{ name = \"note\", sql = \"insert into notes values (1)\" }, \
                         { name = \"never\", sql = \"select 1\", pause = \"10m\" }]",
        shows: NOTED,
        ..PLAIN
    },
    Hang {
        what: "think time",
        group: "think = \"10m\"\nschedule = { kind = \"per-session\", iterations = 2 }\n\
                steps = [{ name = \"note\", sql = \"insert into notes values (1)\" }]",
        shows: NOTED,
        ..PLAIN
    },
    Hang {
        what: "an empty pool",
        before: "[pool]\nsize = 1\nwait = \"10m\"",
        group: "leak = [\"accepted\"]\nsteps = [{ name = \"note\", sql = \"insert into notes values (1)\" }]",
        shows: NOTED,
        ..PLAIN
    },
    Hang {
        what: "a rate's next start",
        group: "schedule = { kind = \"constant-rate\", rate = \"1/h\", duration = \"2h\" }\n\
                steps = [{ name = \"note\", sql = \"insert into notes values (1)\" }]",
        shows: CONNECTED,
        ..PLAIN
    },
    Hang {
        what: "a backoff",
        group: "retry = { times = 5, on = [\"22012\"], backoff = \"10m\", backoff_max = \"10m\" }\n\
                steps = [{ name = \"note\", sql = \"insert into notes values (1)\" }, { name = \"fail\", sql = \"select 1 / 0\" }]",
        shows: NOTED,
        ..PLAIN
    },
    Hang {
        what: "looking an attempt up",
        group: "settle = \"select from pg_sleep(600)\"\nsteps = [{ name = \"note\", sql = \"insert into notes values (1)\" }]",
        ..PLAIN
    },
];

fn server_of(sandbox: &Sandbox) -> crate::common::TestServer {
    let server = sandbox.server();
    server.exec(
        "create table things (id int, name text); insert into things values (1, 'one'); create table notes (id int); \
         create table late (id int); \
         create function sleep() returns trigger language plpgsql as 'begin perform pg_sleep(600); return null; end'; \
         create constraint trigger late after insert on late deferrable initially deferred \
         for each row execute function sleep()",
    );
    server
}

#[test]
fn ctrl_c_ends_a_run_that_hangs_and_it_is_reported() {
    let sandbox = Sandbox::new();
    let server = server_of(&sandbox);
    for hang in &HANGS {
        let Hang {
            what,
            before,
            group,
            flags,
            foreign,
            shows,
            then,
        } = hang;
        server.exec("truncate notes, late");
        let other = Database::connect(&server.url());
        if !foreign.is_empty() {
            other.exec(&format!("begin; {foreign}"));
        }
        let text = format!("title = \"t\"\n{before}\n[[sessions]]\nname = \"a\"\nsessions = 3\n{group}\n");
        let file = sandbox.write(&format!("{}.toml", what.replace(' ', "-")), &text);
        let run = sandbox.start(&format!("contend {file} --url {} --format json {flags}", server.url()));
        wait_until(what, Duration::from_secs(30), || server.is(shows));
        if !then.is_empty() {
            other.exec(then);
            let waits = "exists (select from pg_locks where not granted and relation = 'things'::regclass)";
            wait_until(what, Duration::from_secs(30), || server.is(waits));
        }
        // what follows the sign that it is there
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        run.signal(Signal::SIGINT);
        let run = run.wait_at_most(Duration::from_secs(60)).exits(130);
        let took = began.elapsed();
        assert!(took < END_AT_MOST, "{what}: {took:?}");
        let report = run.json();
        assert_eq!(report["verdict"]["outcome"], "interrupted", "{what}\n{run}");
        assert_eq!(report["race"]["cut_short"], "interrupted", "{what}\n{run}");
        drop(other);
        let sessions = "select count(*) from pg_stat_activity where application_name like 'db-race/%'";
        wait_until("no session is left", Duration::from_secs(2), || {
            server.value(sessions) == "0"
        });
    }
}

#[test]
fn who_insists_does_not_wait_for_a_statement_that_minds_no_cancel_request() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create function stubborn() returns void language plpgsql as $$ begin loop begin \
         perform pg_sleep(600); exception when query_canceled then null; end; end loop; end $$",
    );
    let file = sandbox.write(
        "stubborn.toml",
        "title = \"t\"\n[[sessions]]\nname = \"a\"\nsessions = 3\n\
         steps = [{ name = \"nap\", sql = \"select stubborn()\", timeout = \"10m\" }]\n",
    );
    let run = sandbox.start(&format!(
        "contend {file} --url {} --gate none --no-control",
        server.url()
    ));
    wait_until("it hangs", Duration::from_secs(30), || server.is(SLEEPS));
    run.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(300));
    run.signal(Signal::SIGINT);
    let began = Instant::now();
    run.wait_at_most(Duration::from_secs(20)).exits(130);
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    wait_until("nobody sleeps on", Duration::from_secs(2), || !server.is(SLEEPS));
}
