//! `db-race check`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use common::Sandbox;

fn check(id: &str, header: &str, sql: &str) -> String {
    format!("-- /// db-race check\n-- id = \"{id}\"\n-- title = \"Check {id}\"\n{header}-- ///\n{sql}\n")
}

const KEY: &str = "-- key = [\"id\"]\n";

#[test]
fn lint_lists_what_is_wrong_with_all_files() {
    let sandbox = Sandbox::new();
    sandbox.write("c/good.sql", &check("c.good", KEY, "select id from t order by id;"));
    sandbox
        .run("check lint c")
        .exits(0)
        .shows(&["1 check, 0 errors, 0 warnings, 0 notes"]);
    sandbox.write("c/keyless.sql", &check("c.keyless", "", "select id from t order by id"));
    sandbox
        .run("check lint c")
        .exits(1)
        .shows(&["c/keyless.sql:5: warning: c.keyless: it has no `key`"]);
    sandbox.write("c/broken.sql", "-- /// db-race check\n-- id = 1\n-- ///\n");
    sandbox.write("c/in/unreadable.sql", "select 1");
    sandbox.write("c/in/twice.sql", &check("c.good", KEY, "select id from t order by id"));
    sandbox.write("c/two.sql", &check("c.two", KEY, "select 1 as id; select 2 order by 1"));
    sandbox.run("check lint c").exits(2).shows(&[
        "c/broken.sql:2:",
        "c/in/unreadable.sql",
        "c.good: c/good.sql has the same id",
        "c/two.sql:6: error: c.two: it has 2 statements",
        "c/keyless.sql:5: warning",
        "6 checks, 4 errors, 1 warning, 0 notes",
    ]);
}

#[test]
fn lint_asks_a_server_for_what_only_it_knows() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec(
        "create table t (id int, at timestamptz, note text); create table large (id int);
         -- as if it had been analyzed with this many rows
         update pg_class set reltuples = 3e6, relpages = 30000 where relname = 'large'",
    );
    let grace = |column: &str| format!("{KEY}-- grace = {{ column = \"{column}\", for = \"1h\" }}\n");
    for (name, header, sql) in [
        ("good", KEY.to_string(), "select id from t order by id"),
        ("timely", grace("at"), "select id, at from t order by id"),
        ("column", KEY.to_string(), "select nope from t order by 1"),
        ("key", KEY.to_string(), "select note from t order by 1"),
        ("timeless", grace("note"), "select id, note from t order by id"),
        (
            "writes",
            KEY.to_string(),
            "with x as (delete from t returning id) select id from x order by id",
        ),
        (
            "reads_all",
            KEY.to_string(),
            "select id from large where id < 0 order by id",
        ),
    ] {
        sandbox.write(&format!("c/{name}.sql"), &check(&format!("c.{name}"), &header, sql));
    }
    server.exec("insert into t values (1)");
    let run = sandbox.run(&format!("check lint c --url {}", server.url())).exits(2);
    let run = run.shows(&[
        "c/column.sql:6: error: c.column: column \"nope\" does not exist",
        "c.key: the key column `id` is not in its result",
        "c.timeless: the grace column `note` is no date and no timestamp",
        "c.writes: DECLARE CURSOR must not contain data-modifying",
        "note: c.reads_all: it reads all of public.large, about 3000000 rows",
        "7 checks, 4 errors, 0 warnings, 1 note",
    ]);
    assert!(
        !run.stdout.contains("c.good") && !run.stdout.contains("c.timely"),
        "{run}"
    );
    assert_eq!(server.value("select count(*) from t"), "1", "nothing was run");
}

#[test]
fn a_check_is_tried_on_what_it_must_find_and_on_what_it_must_not() {
    let sandbox = Sandbox::new();
    let write = |name: &str, sql: &str| {
        sandbox.write(&format!("c/{name}.sql"), &check(&format!("c.{name}"), KEY, sql));
    };
    let fixture = |name: &str, text: &str| {
        sandbox.write(&format!("c/fixtures/{name}.sql"), text);
    };
    fixture(
        "schema",
        "create table t (id int, n int, at timestamptz); insert into t values (1, 1)",
    );
    write("negative", "select id from t where n < 0 order by id");
    fixture(
        "negative",
        "-- finds: [[\"3\"], [\"2\"]]\ninsert into t values (2, -1), (3, -2), (4, 0)",
    );
    fixture("negative.ok", "-- finds: []\ninsert into t values (5, 0)");
    // what a session does while the check runs
    sandbox.write(
        "c/open.sql",
        &check(
            "c.open",
            "-- key = [\"id\"]\n-- params = { wanted = \"no\" }\n",
            "select 1 as id from pg_stat_activity where state = 'idle in transaction' and application_name = 'db-race/fixture'
             and current_setting('race.wanted') = 'yes'",
        ),
    );
    fixture(
        "open",
        "-- finds: [[\"1\"]]\n-- params: {\"wanted\": \"yes\"}\nbegin; create role left_behind; select 1",
    );
    let grace = "-- key = [\"id\"]\n-- grace = { column = \"at\", for = \"1h\" }\n";
    sandbox.write(
        "c/young.sql",
        &check("c.young", grace, "select id, at from t where at is not null"),
    );
    fixture(
        "young",
        "-- finds: [[\"2\"]]\n-- pending: [[\"3\"]]\ninsert into t values (2, 0, '2020-01-01'), (3, 0, now())",
    );
    sandbox.write(
        "c/skipped.sql",
        &check("c.skipped", "-- run_on = \"standby\"\n", "select 1 as id"),
    );
    fixture("skipped", "-- finds: [[\"1\"]]\nselect 1");
    let run = sandbox.run("check test c").exits(3);
    run.shows(&[
        "✓ c.negative  2 fixtures",
        "✓ c.open  1 fixture",
        "✓ c.young  1 fixture",
        "- c.skipped  skipped: it runs on a standby",
        "4 checks: 3 right, 0 wrong, 1 skipped",
    ]);

    write("negative", "select id from t where n < -1 order by id");
    write("never", "select id from t where n < 0 and n > 0 order by id");
    fixture("never", "-- finds: [[\"2\"]]\ninsert into t values (2, -1)");
    write("untried", "select id from t where n > 100");
    write("always", "select id from t");
    fixture("always", "-- finds: [[\"1\"]]\nselect 1");
    write("wrong", "select id from t where n > 100");
    fixture("wrong", "-- finds: [[\"1\"]]\ninsert into nope values (1)");
    sandbox.run("check test c").exits(2).shows(&[
        "✗ c.negative  c/fixtures/negative.sql: it must find [[\"2\"],[\"3\"]], and finds [[\"3\"]]",
        "✗ c.never  c/fixtures/never.sql: it finds nothing in what it is there to find: it can never fail",
        "✗ c.untried  has no fixture",
        "✗ c.always  the schema as it is: it finds 1 rows in it",
        "✗ c.wrong  ",
        "relation \"nope\" does not exist",
    ]);
    fixture("wrong", "insert into t values (1)");
    sandbox
        .run("check test c")
        .exits(64)
        .complains(&["c/fixtures/wrong.sql", "-- finds:"]);
}

#[test]
fn bundled_checks_are_right_on_their_fixtures() {
    let sandbox = Sandbox::new();
    sandbox
        .run("check test hotel/orphan_holds")
        .exits(0)
        .shows(&["✓ hotel.orphan_holds", "1 right, 0 wrong, 0 skipped"]);
}

#[test]
fn a_statement_is_shown_as_psql_takes_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let header =
        "-- key = [\"id\"]\n-- params = { ttl = \"it's\" }\n-- chunk = { relation = \"pg_class\", key = \"oid\" }\n";
    let sql = "select current_setting('race.ttl') as id, current_setting('race.chunk_to')::int8 > 0 as c; -- end";
    sandbox.write("shown.sql", &check("shown", header, sql));
    let run = sandbox.run("check show shown.sql").exits(0);
    assert_eq!(server.rows(&run.stdout).last().unwrap(), &["it's", "t"], "{run}");
}
