//! What a check could do beside tables: the transaction's end undoes it, db-race clears it away, or the role may not. What none of them
//! stops is in `docs/checks.md`, and here.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common::database::Database;
use crate::common::{Sandbox, TestServer, wait_until};
use crate::hostile::{dump, prepared};
use crate::{check, of, violated};

/// What is to become of a check.
enum Ends {
    /// It could not be decided, for one of these reasons, separated by `|`.
    Undecided(&'static str),
    /// It finds so many rows.
    Finds(u64),
}

use Ends::{Finds, Undecided};

/// Each in a function, where no statement's name gives it away.
const FUNCTIONS: &str = "
    create function counts_on() returns bigint language plpgsql as $$ begin return nextval('s'); end $$;
    create function counts_back() returns bigint language plpgsql as $$ begin return setval('s', 99); end $$;
    create function makes_temp_of_query() returns int language plpgsql as $$
    begin create temp table left_behind as select 1 as id; return 1; end $$;
    create function notifies() returns int language plpgsql as $$
    begin
        for n in 1..100 loop perform pg_notify('a', n || repeat('x', 7900)); end loop;
        notify a, 'by statement';
        return 1;
    end $$;
    create function listens() returns int language plpgsql as $$ begin listen a; return 1; end $$;
    create function sets() returns int language plpgsql as $$ begin set race.left_behind = '2'; return 1; end $$;
    create function opens() returns int language plpgsql as $$
    begin execute 'declare left_behind cursor with hold for select 1'; return 1; end $$;
    create function prepares() returns int language plpgsql as $$
    begin execute 'prepare left_behind as select 1'; return 1; end $$;
    create function copies(file text) returns int language plpgsql as $$
    begin execute format('copy (select 1) to %L', file); return 1; end $$;
";

/// Runs them one after another, in their order, and sees what became of each.
#[track_caller]
fn run(sandbox: &Sandbox, url: &str, checks: &[(&str, &str, Ends)]) -> Value {
    let _ = fs::remove_dir_all(sandbox.dir().join("checks"));
    for (i, (id, sql, _)) in checks.iter().enumerate() {
        sandbox.write(
            &format!("checks/{i:02}.sql"),
            &check(id, "-- key = [\"id\"]\n-- timeout = \"5s\"\n", sql),
        );
    }
    let run = sandbox.run(&format!("verify checks --jobs 1 --url {url} --format json"));
    let report = run.json();
    for (id, _, ends) in checks {
        let check = of(&report, id);
        match ends {
            Finds(count) => {
                assert_eq!(violated(check), *count > 0, "{check:#}");
                assert_eq!(check["count"], *count, "{check:#}");
            }
            Undecided(why) => {
                let reason = check["reason"].as_str().unwrap_or_default();
                assert!(
                    check["decision"] == "could_not_decide" && why.split('|').any(|why| reason.contains(why)),
                    "{why}: {check:#}"
                );
            }
        }
    }
    report
}

fn version(server: &TestServer) -> u32 {
    server.value("show server_version_num").parse::<u32>().unwrap() / 10_000
}

#[test]
fn what_a_check_does_beside_tables_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let server = prepared(&sandbox);
    server.exec(FUNCTIONS);
    let url = server.url_of("guest@/postgres");
    // its own, so that no privilege is missing
    Database::connect(&url).exec("select lo_from_bytea(4711, 'as it was')");
    // while somebody listens, and does not come to reading, what is sent stays in the queue
    let listener = Database::connect(&url);
    listener.exec("listen a");
    listener.exec("begin");
    // PostgreSQL 16 has put large objects under read only; before, the end of the transaction takes them back
    let large_objects = || match version(&server) {
        16.. => Undecided("read-only transaction"),
        _ => Finds(1),
    };
    let file = server.data_dir().join("left_behind");
    let copies = format!("select copies('{}') as id", file.display());
    let exports = format!("select lo_export(4711, '{}') as id", file.display());
    let before = dump(&server);
    let checks = [
        ("lo_create", "select lo_create(0) as id", large_objects()),
        ("lo_from_bytea", "select lo_from_bytea(0, 'x') as id", large_objects()),
        ("lo_put", "select lo_put(4711, 0, 'changed') as id", large_objects()),
        ("lo_unlink", "select lo_unlink(4711) as id", large_objects()),
        (
            "nextval",
            "select counts_on() as id",
            Undecided("read-only transaction"),
        ),
        (
            "setval",
            "select counts_back() as id",
            Undecided("read-only transaction"),
        ),
        (
            "temp",
            "select makes_temp_of_query() as id",
            Undecided("read-only transaction"),
        ),
        ("notify", "select notifies() as id", Finds(1)),
        ("listen", "select listens() as id", Finds(1)),
        (
            "a_setting",
            "select set_config('race.left_behind', '1', false) as id",
            Finds(1),
        ),
        (
            "a_setting_is_gone",
            "select 1 as id where current_setting('race.left_behind', true) <> ''",
            Finds(0),
        ),
        ("set", "select sets() as id", Finds(1)),
        (
            "set_is_gone",
            "select 1 as id where current_setting('race.left_behind', true) <> ''",
            Finds(0),
        ),
        ("cursor", "select opens() as id", Finds(1)),
        (
            "cursor_is_gone",
            "select name as id from pg_cursors where name = 'left_behind'",
            Finds(0),
        ),
        (
            "advisory",
            "select pg_advisory_lock(n) as id from generate_series(1, 3) n",
            Finds(3),
        ),
        (
            "advisory_twice",
            "select pg_advisory_lock_shared(1) as id from generate_series(1, 3) n",
            Finds(3),
        ),
        (
            "advisory_is_gone",
            "select objid as id from pg_locks where locktype = 'advisory'",
            Finds(0),
        ),
        (
            "advisory_of_error",
            "select 1 / (count(pg_advisory_lock(1)) - 1) as id",
            Undecided("division by zero"),
        ),
        (
            "that_is_gone",
            "select objid as id from pg_locks where locktype = 'advisory'",
            Finds(0),
        ),
        ("copy", &copies, Undecided("pg_write_server_files|must be superuser")),
        ("lo_export", &exports, Undecided("permission denied")),
        (
            "read_file",
            "select pg_read_file('postgresql.conf') as id",
            Undecided("permission denied"),
        ),
        (
            "reload",
            "select pg_reload_conf() as id",
            Undecided("permission denied"),
        ),
        (
            "switch_wal",
            "select pg_switch_wal() as id",
            Undecided("permission denied"),
        ),
        (
            "restore_point",
            "select pg_create_restore_point('a') as id",
            Undecided("permission denied"),
        ),
        ("last_locks", "select pg_advisory_lock(7) as id", Finds(1)),
    ];
    run(&sandbox, &url, &checks);
    assert!(before == dump(&server), "the database is not the same");
    assert!(!file.exists(), "a file was written");
    assert!(server.is("pg_notification_queue_usage() = 0"), "nobody was notified");
    server.exec("select notifies()");
    assert!(
        server.is("pg_notification_queue_usage() > 0"),
        "otherwise that says nothing"
    );
}

#[test]
fn what_read_only_does_not_stop_the_role_that_is_shipped_does() {
    let sandbox = Sandbox::new();
    let server = prepared(&sandbox);
    server.exec(FUNCTIONS);
    server.exec("select lo_from_bytea(4711, 'as it was')");
    install_role(&sandbox, &server);
    let [copied, exported] = ["copied", "exported"].map(|name| server.data_dir().join(name));
    let copies = format!("select copies('{}') as id", copied.display());
    let exports = format!("select lo_export(4711, '{}') as id", exported.display());
    let each = |as_superuser: bool| {
        let stopped = |why: &'static str| if as_superuser { Finds(1) } else { Undecided(why) };
        [
            ("copy", &*copies, stopped("pg_write_server_files|must be superuser")),
            ("lo_export", &exports, stopped("permission denied")),
            (
                "read_file",
                "select pg_read_file('postgresql.conf') as id",
                stopped("permission denied"),
            ),
            ("reload", "select pg_reload_conf() as id", stopped("permission denied")),
            (
                "switch_wal",
                "select pg_switch_wal() as id",
                stopped("permission denied"),
            ),
            (
                "restore_point",
                "select pg_create_restore_point('a') as id",
                stopped("permission denied"),
            ),
            // whoever may call it: docs/checks.md says so
            (
                "message",
                "select pg_logical_emit_message(false, 'a', 'b') as id",
                Finds(1),
            ),
            ("prepare", "select prepares() as id", Finds(1)),
            (
                "prepared",
                "select name as id from pg_prepared_statements where name = 'left_behind'",
                Finds(1),
            ),
        ]
    };
    let was_read_again = || server.log().contains("received SIGHUP");
    let before = dump(&server);
    run(&sandbox, &server.url_of("db_race_check@/postgres"), &each(false));
    assert!(!copied.exists() && !exported.exists() && !was_read_again());
    run(&sandbox, &server.url(), &each(true));
    assert!(
        copied.exists() && exported.exists(),
        "otherwise the role has proven nothing"
    );
    wait_until("the signal", Duration::from_secs(20), was_read_again);
    assert!(before == dump(&server), "the database is the same at any rate");
}

#[test]
fn a_second_connection_writes_where_the_role_may_call_what_opens_it() {
    let sandbox = Sandbox::new();
    let server = prepared(&sandbox);
    if !server.is("exists (select from pg_available_extensions where name = 'dblink')") {
        // not by eprintln, which is shown of failed tests only
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: this server has no dblink; it is in PostgreSQL's contrib"
        );
        return;
    }
    server.exec("create extension dblink");
    let place = format!(
        "host={} port={} dbname=postgres",
        server.socket_dir().display(),
        server.value("show port")
    );
    server.exec(&format!(
        "create function writes_elsewhere() returns text language sql security definer
             as $$ select dblink_exec('{place} user=postgres', 'delete from t where id = 1') $$"
    ));
    install_role(&sandbox, &server);
    let url = server.url_of("db_race_check@/postgres");
    let mine = format!("select dblink_exec('{place} user=db_race_check', 'delete from t') as id");
    let others = format!("select dblink_exec('{place} user=postgres', 'delete from t') as id");
    let by_function = "select writes_elsewhere() as id";
    server.exec("revoke execute on function writes_elsewhere() from public");
    let before = dump(&server);
    let refused = "password is required|password or GSSAPI";
    run(
        &sandbox,
        &url,
        &[
            ("mine", &mine, Undecided(refused)),
            ("others", &others, Undecided(refused)),
            (
                "function",
                by_function,
                Undecided("permission denied for function writes_elsewhere"),
            ),
        ],
    );
    assert!(before == dump(&server), "the database is not the same");
    // as PostgreSQL grants it by itself: that is beyond a check's transaction, and docs/checks.md says so
    server.exec("grant execute on function writes_elsewhere() to public");
    run(&sandbox, &url, &[("function", by_function, Finds(1))]);
    assert!(server.is("not exists (select from t where id = 1)"));
}

/// Makes the role of `db-race check role`.
fn install_role(sandbox: &Sandbox, server: &TestServer) {
    let file = sandbox.write("role.sql", &sandbox.run("check role").exits(0).stdout);
    let done = Command::new(server.psql_path())
        .args(["-X", "-q", "-d", &server.url(), "-f", &file])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
