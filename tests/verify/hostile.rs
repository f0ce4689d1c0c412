//! Checks that would do harm: the database is the same afterwards, the memory stays small, and each has its own clear verdict.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::common::run::Run;
use crate::common::{Sandbox, TestServer, wait_until};
use crate::{check, of, violated};

/// What db-race may use at the most.
const MEMORY_MAX_KB: u64 = 100 * 1024;

/// Tables with rows, functions that write in every way, and a role that may do it all: what stops it is not a lack of privileges.
const SCHEMA: &str = "
    create table t (id int primary key, note text);
    insert into t select n, 'row ' || n from generate_series(1, 100) n;
    create sequence s;
    create table big as select 1 as id from generate_series(1, 10);
    create function writes() returns int language sql as 'delete from t; select 1';
    create function writes_as_owner() returns int language sql security definer as 'delete from t; select 1';
    create function writes_quietly() returns int language plpgsql as $$
    begin
        begin delete from t; exception when others then raise warning 'hidden'; end;
        return 1;
    end $$;
    create function turns_writing_on() returns int language plpgsql as $$
    begin
        perform set_config('transaction_read_only', 'off', true);
        delete from t;
        return 1;
    end $$;
    create function sets_transaction() returns int language plpgsql as $$
    begin set transaction read write; delete from t; return 1; end $$;
    create function makes_temp() returns int language plpgsql as $$
    begin create temp table x (id int); return 1; end $$;
    create function commits() returns int language plpgsql as $$
    begin commit; delete from t; return 1; end $$;
    create procedure calls() language plpgsql as $$ begin delete from t; commit; end $$;
    create function says_it_is_immutable() returns int immutable language plpgsql as $$
    begin perform writes(); return 1; end $$;
    create function never_ends() returns int language plpgsql as $$
    begin
        loop
            begin perform pg_sleep(60); exception when query_canceled then raise debug 'no'; end;
        end loop;
    end $$;
    create function resets_timeout() returns int language plpgsql as $$
    begin perform set_config('statement_timeout', '0', false); perform pg_sleep(600); return 1; end $$;
    create function too_deep(n int) returns int language plpgsql as $$ begin return too_deep(n + 1); end $$;
    create function runs_program() returns int language plpgsql as $$
    begin copy (select 1) to program 'touch /tmp/db-race-hostile'; return 1; end $$;
    create function becomes(role text) returns int language plpgsql as $$
    begin execute 'set local role ' || role; delete from t; return 1; end $$;
    create function wide(n int) returns text language sql immutable as $$ select repeat('x', n) $$;
";

pub(crate) fn prepared(sandbox: &Sandbox) -> TestServer {
    let server = sandbox.server();
    server.exec(SCHEMA);
    server.exec(
        "create role guest login;
         grant all on all tables in schema public to guest;
         grant all on all sequences in schema public to guest;
         grant create on schema public to guest",
    );
    server
}

/// Everything that is in the database, and in the catalogs but for what statistics and vacuum write there. `pg_dump` would
/// have to be as new as the server.
pub(crate) fn dump(server: &TestServer) -> String {
    let mut text = server.value("select database_to_xml(true, false, '')");
    for catalog in [
        "pg_attribute",
        "pg_auth_members",
        "pg_authid",
        "pg_class",
        "pg_constraint",
        "pg_database",
        "pg_db_role_setting",
        "pg_depend",
        "pg_index",
        "pg_largeobject",
        "pg_largeobject_metadata",
        "pg_namespace",
        "pg_proc",
        "pg_rewrite",
        "pg_sequences",
        "pg_trigger",
        "pg_type",
    ] {
        let rows = server.rows(&format!(
            "select (to_jsonb(c)
                     - '{{relpages, reltuples, relallvisible, relallfrozen, relfrozenxid, relminmxid,
                          datfrozenxid, datminmxid}}'::text[])::text
             from {catalog} c order by 1"
        ));
        text.extend(rows.into_iter().flatten().map(|row| row + "\n"));
    }
    text
}

/// Runs to the end, and sees to the memory that it takes.
fn run_small(sandbox: &Sandbox, words: &str) -> Run {
    let mut run = sandbox.start(words);
    let status = format!("/proc/{}/status", run.pid());
    let mut peak = 0;
    wait_until("the end of the run", Duration::from_secs(120), || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kb.unwrap_or(0));
        run.has_ended()
    });
    // one that is refused may end before anybody looks
    assert!(peak < MEMORY_MAX_KB, "{peak} kB\n{}", run.wait());
    run.wait()
}

#[test]
fn hostile_checks_change_nothing_and_each_has_its_own_verdict() {
    let sandbox = Sandbox::new();
    let server = prepared(&sandbox);
    // ids in the order in which they are begun: what ends other sessions comes while others run
    let columns: Vec<String> = (1..=1600).map(|i| format!("{i} as c{i}")).collect();
    let wide = format!("select {}", columns.join(", "));
    let undecided: &[(&str, &str, &str)] = &[
        (
            "insert",
            "insert into t values (0) returning id",
            "no query but `insert`",
        ),
        ("update", "update t set note = '' returning id", "no query but `update`"),
        ("delete", "delete from t returning id", "no query but `delete`"),
        ("truncate", "truncate t", "no query but `truncate`"),
        ("drop", "drop table t", "no query but `drop`"),
        ("create", "create table new as select 1 as id", "no query but `create`"),
        ("select_into", "select id into new from t", "INTO"),
        (
            "cte",
            "with gone as (delete from t returning id) select id from gone",
            "data-modifying",
        ),
        ("function", "select writes() as id", "read-only transaction"),
        ("definer", "select writes_as_owner() as id", "read-only transaction"),
        (
            "immutable",
            "select says_it_is_immutable() as id",
            "read-only transaction",
        ),
        ("temp", "select makes_temp() as id", "read-only transaction"),
        ("nextval", "select nextval('s') as id", "read-only transaction"),
        ("setval", "select setval('s', 99) as id", "read-only transaction"),
        ("for_update", "select id from t for update", "read-only transaction"),
        ("read_write", "select turns_writing_on() as id", "read-write mode"),
        ("set_transaction", "select sets_transaction() as id", "read-write mode"),
        ("commits", "select commits() as id", "invalid transaction termination"),
        ("calls", "call calls()", "no query but `call`"),
        (
            "several",
            "select 1 as id where false; delete from t",
            "more than one statement",
        ),
        ("leaves", "commit; delete from t; begin", "more than one statement"),
        (
            "breaks_out",
            "select 1 as id) as x; delete from t; --",
            "more than one statement",
        ),
        ("breaks_out_alone", "select 1 as id) select (1", "syntax error"),
        (
            "block",
            "do $$ begin commit; delete from t; end $$",
            "no query but `do`",
        ),
        ("prepares", "prepare gone as delete from t", "no query but `prepare`"),
        ("executes", "execute gone", "no query but `execute`"),
        (
            "hold",
            "declare mine cursor with hold for select 1",
            "no query but `declare`",
        ),
        ("explains", "explain analyze delete from t", "no query but `explain`"),
        (
            "program",
            "copy t to program 'touch /tmp/db-race-hostile'",
            "no query but `copy`",
        ),
        (
            "program_inside",
            "select runs_program() as id",
            "pg_execute_server_program",
        ),
        (
            "becomes",
            "select becomes('postgres') as id",
            "permission denied to set role",
        ),
        (
            "sets_role",
            "select set_config('role', 'postgres', true) as id",
            "permission denied to set role",
        ),
        (
            "reads_files",
            "select pg_read_file('/etc/passwd') as id",
            "permission denied",
        ),
        ("locks", "lock table t in access exclusive mode", "no query but `lock`"),
        ("listens", "listen a", "no query but `listen`"),
        ("vacuum", "vacuum t", "no query but `vacuum`"),
        ("system", "alter system set fsync = off", "no query but `alter`"),
        ("too_deep", "select too_deep(1) as id", "stack depth limit"),
        ("sleeps", "select 1 as id from pg_sleep(600)", "longer than 2s"),
        ("no_timeout", "select resets_timeout() as id", "longer than 2s"),
        (
            "never_ends",
            "select never_ends() as id",
            "ignored that it was cancelled",
        ),
        (
            "recursion",
            "with recursive r (n) as (select 1 union all select n + 1 from r) select max(n) as id from r",
            "longer than 2s",
        ),
        (
            "cross_join",
            "select count(*) as id from t a, t b, t c, t d, t e, t f, t g",
            "longer than 2s",
        ),
        (
            "ends_itself",
            "select pg_terminate_backend(pg_backend_pid()) as id",
            "connection was lost",
        ),
        (
            "too_wide",
            "select wide(1200000000) as id",
            // the second before PostgreSQL 14
            "too large|invalid memory alloc request size",
        ),
    ];
    let decided: &[(&str, &str, u64)] = &[
        ("quietly", "select writes_quietly() as id", 1),
        ("notifies", "select pg_notify('a', 'b') as id", 1),
        ("advisory", "select pg_advisory_lock(1) as id", 1),
        (
            "ten_million",
            "select n as id, wide(100) as x from generate_series(1, 10000000) n",
            1000,
        ),
        ("giant_value", "select 1 as id, wide(300000000) as x", 1),
        ("giant_key", "select wide(50000000) as id", 1),
        ("1600_columns", &wide, 1),
        ("same_names", "select 1 as id, 2 as id, 3 as x, 4 as x", 1),
        ("no_name", "select 1 as id, 2, 3", 1),
        (
            "ends_others",
            "select pg_terminate_backend(pid) as id from pg_stat_activity
            where application_name like 'db-race/%' and pid <> pg_backend_pid()",
            1,
        ),
        (
            "cancels_others",
            "select pg_cancel_backend(pid) as id from pg_stat_activity
            where usename = 'guest' and pid <> pg_backend_pid() and false",
            0,
        ),
        ("z_last", "select id from t order by id", 100),
    ];
    assert!(undecided.len() + decided.len() >= 30);
    for (i, (id, sql, _)) in undecided.iter().enumerate() {
        let timeout = "-- timeout = \"2s\"\n";
        sandbox.write(&format!("checks/{i:02}.sql"), &check(id, timeout, sql));
    }
    for (i, (id, sql, _)) in decided.iter().enumerate() {
        let key = "-- key = [\"id\"]\n-- count = \"capped\"\n";
        let key = if matches!(*id, "1600_columns") { "" } else { key };
        sandbox.write(&format!("checks/x{i:02}.sql"), &check(id, key, sql));
    }
    let before = dump(&server);
    let program = "/tmp/db-race-hostile";
    assert!(!fs::exists(program).unwrap());
    let url = server.url_of("guest@/postgres");
    let words = format!("verify checks --jobs 4 --url {url} --format json");
    let report: Value = run_small(&sandbox, &words).exits(2).json();
    assert!(before == dump(&server), "the database is not the same");
    assert!(!fs::exists(program).unwrap(), "a program was run");
    for (id, _, why) in undecided {
        let check = of(&report, id);
        let reason = check["reason"].as_str().unwrap_or_default();
        assert!(
            check["decision"] == "could_not_decide" && why.split('|').any(|why| reason.contains(why)),
            "{why}: {check:#}"
        );
    }
    for (id, _, count) in decided {
        let check = of(&report, id);
        let is_violated = *count > 0;
        assert_eq!(violated(check), is_violated, "{check:#}");
        if *id != "ends_others" {
            assert_eq!(check["count"], *count, "{check:#}");
        }
    }
    let value = of(&report, "giant_value")["findings"][0]["row"][1][1].as_str().unwrap();
    assert!(value.ends_with('…') && value.len() < 10_000, "it is cut");
    assert!(
        server.is("not exists (select from pg_stat_activity where usename = 'guest')"),
        "nobody is left"
    );
}

#[test]
fn hostile_files_are_refused_at_their_place() {
    let sandbox = Sandbox::new();
    let good = check("c", "", "select 1 as id");
    let nested = format!("-- key = {}\n", "[".repeat(100_000));
    let dotted = format!("-- {}= 1\n", "a.".repeat(100_000));
    let huge = "x".repeat(10 << 20);
    for (name, bytes, shown) in [
        ("latin.sql", [good.as_bytes(), b"-- \xe9\n"].concat(), "not UTF-8"),
        ("nul.sql", [good.as_bytes(), b"-- \0\n"].concat(), "nul.sql:6:"),
        ("deep.sql", check("c", &nested, "select 1").into_bytes(), "deep.sql:4:"),
        (
            "dotted.sql",
            check("c", &dotted, "select 1").into_bytes(),
            "dotted.sql:4:",
        ),
        ("huge.sql", check("c", "", &huge).into_bytes(), "larger than 4 MiB"),
        ("empty.sql", Vec::new(), "no `-- /// db-race check` block"),
        ("id.sql", check("c d", "", "select 1").into_bytes(), "id.sql:2:"),
    ] {
        sandbox.write(name, "");
        fs::write(sandbox.dir().join(name), bytes).unwrap();
        let run = run_small(
            &sandbox,
            &format!("verify {name} --url postgresql://x@/x?host=/nowhere"),
        )
        .exits(64);
        let run = run.complains(&[name, shown]);
        assert!(
            run.stderr.len() < 1_000_000,
            "{name}: the message is as long as the file"
        );
    }
}
