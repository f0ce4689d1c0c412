//! Ways in which procedures take a seat, right and wrong: the right ones raise no alarm, the wrong ones are found every time.
//!
//! Ten sessions want each of two seats. Every pattern runs twice, two rounds each.

mod common;

use common::Sandbox;
use common::run::{broken_rules, rule};

/// What the patterns share; each adds its `take`.
const SCHEMA: &str = "
create table seats (id int primary key, owner int, version int not null default 0);
create table claims (seat int not null, who int not null);
create table stock (id int primary key, free int not null);
create table sold (stock int not null references stock, who int not null);
";
const SETUP: &str = "delete from sold; delete from claims; delete from seats; delete from stock; \
    insert into seats values (1), (2); insert into stock values (1, 1), (2, 1)";
const TAKEN: &str = "if not found then raise exception 'taken' using errcode = 'ZZ001'; end if;";

/// Runs a pattern whose `take(p_id int, p_who int)` has this body (TAKEN is spelled out).
fn race(name: &str, before: &str, body: &str) -> Vec<serde_json::Value> {
    let body = body.replace("TAKEN", TAKEN);
    let function = format!(
        "create function take(p_id int, p_who int) returns void language plpgsql as \
         $$ declare v record; n int; begin {body} end $$;"
    );
    race_sql(name, &format!("{before}; {function}"), "select take(:id, :session)", "")
}

fn race_sql(name: &str, sql: &str, call: &str, more: &str) -> Vec<serde_json::Value> {
    let sandbox = Sandbox::new();
    sandbox.write(&format!("{name}/schema.sql"), &format!("{SCHEMA}{sql}"));
    // a function that returns rows says no with none of them
    let no_row = if sql.contains("setof") {
        ", { no_row = true }"
    } else {
        ""
    };
    let scenario = format!(
        "title = \"{name}\"\nsystem = \"{name}\"\nrounds = 2\nsetup = \"{SETUP}\"\n{more}\n\
         keys = {{ sql = \"select id from seats order by id\" }}\n\
         [[sessions]]\nname = \"s\"\nsessions = 20\n\
         steps = [{{ name = \"take\", sql = \"{call}\", reject = [{{ sqlstate = \"ZZ001\" }}{no_row}] }}]\n\
         [expect]\n\"take.accepted\" = \"== 1 per key\"\n"
    );
    let file = sandbox.write(&format!("{name}.toml"), &scenario);
    (0..2)
        .map(|_| sandbox.run(&format!("contend {file} --format json --quiet")).json())
        .collect()
}

#[track_caller]
fn holds(reports: &[serde_json::Value]) {
    for report in reports {
        assert_eq!(report["verdict"]["outcome"], "passed", "{:#}", report["verdict"]);
    }
}

/// The rule is broken in every round, and not in the control.
#[track_caller]
fn breaks(reports: &[serde_json::Value], name: &str) {
    for report in reports {
        assert_eq!(report["verdict"]["cause"], "concurrency_bug", "{:#}", report["verdict"]);
        assert!(
            broken_rules(report).iter().any(|r| r.starts_with(name)),
            "{:#}",
            report["verdict"]
        );
        assert_eq!(rule(report, name)["broken_rounds"], 2, "{:#}", report["verdict"]);
    }
}

#[test]
fn right_locks_hold() {
    for (name, body) in [
        (
            "atomic-update",
            "update seats set owner = p_who where id = p_id and owner is null; TAKEN",
        ),
        (
            "for-update",
            "select * into v from seats where id = p_id and owner is null for update; TAKEN \
             update seats set owner = p_who where id = p_id;",
        ),
        (
            "skip-locked",
            "select * into v from seats where id = p_id and owner is null for update skip locked; TAKEN \
             update seats set owner = p_who where id = p_id;",
        ),
        (
            "advisory-xact-lock",
            "perform pg_advisory_xact_lock(p_id); select * into v from seats where id = p_id and owner is null; TAKEN \
             update seats set owner = p_who where id = p_id;",
        ),
        (
            "lock-table",
            "lock table seats in exclusive mode; select * into v from seats where id = p_id and owner is null; TAKEN \
             update seats set owner = p_who where id = p_id;",
        ),
        (
            "counter",
            "update stock set free = free - 1 where id = p_id and free > 0; TAKEN \
             insert into sold (stock, who) values (p_id, p_who);",
        ),
    ] {
        holds(&race(name, "", body));
    }
}

#[test]
fn right_checks_after_the_fact_hold() {
    let optimistic = "select * into v from seats where id = p_id; \
        if v.owner is not null then raise exception 'taken' using errcode = 'ZZ001'; end if; \
        update seats set owner = p_who, version = version + 1 where id = p_id and version = v.version; TAKEN";
    holds(&race("version", "", optimistic));
    let unique = "insert into claims (seat, who) values (p_id, p_who) on conflict do nothing; TAKEN";
    holds(&race("unique", "alter table claims add unique (seat)", unique));
    let unlocked = "select * into v from seats where id = p_id and owner is null; TAKEN \
        update seats set owner = p_who where id = p_id;";
    let serializable = "alter database postgres set default_transaction_isolation = 'serializable'";
    holds(&race("serializable", serializable, unlocked));
}

#[test]
fn decisions_on_unlocked_reads_are_found() {
    for (name, before, body) in [
        (
            "unlocked-read",
            "",
            "select * into v from seats where id = p_id and owner is null; TAKEN \
             update seats set owner = p_who where id = p_id;",
        ),
        (
            "check-then-insert",
            "",
            "if exists (select from claims where seat = p_id) then \
             raise exception 'taken' using errcode = 'ZZ001'; end if; \
             insert into claims (seat, who) values (p_id, p_who);",
        ),
        (
            "count-in-repeatable-read",
            "alter database postgres set default_transaction_isolation = 'repeatable read'",
            "select count(*) into n from claims where seat = p_id; \
             if n > 0 then raise exception 'taken' using errcode = 'ZZ001'; end if; \
             insert into claims (seat, who) values (p_id, p_who);",
        ),
    ] {
        breaks(&race(name, before, body), "take.accepted");
    }
}

/// The write gate can't arrange these: the check comes with the write, or after it. The commit gate can.
#[test]
fn what_needs_a_late_commit_is_found() {
    let one_statement = "insert into claims (seat, who) \
        select p_id, p_who where not exists (select from claims where seat = p_id); TAKEN";
    breaks(&race("insert-select-not-exists", "", one_statement), "take.accepted");

    let sql_function = "create function take(p_id int, p_who int) returns setof int language sql as \
        $$ insert into claims (seat, who) select p_id, p_who \
        where not exists (select from claims where seat = p_id) returning who $$;";
    let reports = race_sql("sql-function", sql_function, "select take(:id, :session)", "");
    breaks(&reports, "take.accepted");

    let unlocked_before_commit = "perform pg_advisory_lock(p_id); \
        select * into v from seats where id = p_id and owner is null; \
        if not found then perform pg_advisory_unlock(p_id); raise exception 'taken' using errcode = 'ZZ001'; end if; \
        update seats set owner = p_who where id = p_id; perform pg_advisory_unlock(p_id);";
    breaks(
        &race("lock-released-before-commit", "", unlocked_before_commit),
        "take.accepted",
    );
}

#[test]
fn a_deadlock_is_found_though_no_rule_asks_for_it() {
    let lock_upgrade = "select * into v from seats where id = p_id and owner is null for share; TAKEN \
        update seats set owner = p_who where id = p_id;";
    breaks(&race("lock-upgrade", "", lock_upgrade), "deadlocks");
}

#[test]
fn a_procedure_that_commits_in_the_middle_can_be_raced_when_its_tables_are_named() {
    let procedure = "create procedure take(p_id int, p_who int) language plpgsql as $$ declare n int; begin \
        select count(*) into n from claims where seat = p_id; commit; \
        if n > 0 then raise exception 'taken' using errcode = 'ZZ001'; end if; \
        insert into claims (seat, who) values (p_id, p_who); end $$;";
    let reports = race_sql(
        "commit-in-the-middle",
        procedure,
        "call take(:id, :session)",
        "gate_tables = [\"claims\"]",
    );
    breaks(&reports, "take.accepted");
}
