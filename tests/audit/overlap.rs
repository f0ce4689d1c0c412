//! Two audits at once.

use std::time::Duration;

use crate::Shop;
use crate::common::wait_until;
use crate::receiver::{Manner, Receiver};

/// Holds, once it gets a lock.
const SLOW: &str = "select id from item where id = 1 and pg_advisory_xact_lock_shared(42) is null";

#[test]
fn a_second_audit_ends_at_once_and_says_why() {
    let shop = Shop::new();
    shop.check("slow", "", SLOW);
    shop.server.exec("select pg_advisory_lock(42)");
    let first = shop.sandbox.start(&shop.words("--format json"));
    let waits = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify' and wait_event_type = 'Lock') = 1";
    wait_until("the first one is at it", Duration::from_secs(20), || {
        shop.server.is(waits)
    });
    // while it idles, the lock's transaction holds back no vacuum
    let guard = "application_name = 'db-race/audit-overlap' and state = 'idle in transaction'";
    assert!(shop.server.is(&format!(
        "(select count(*) from pg_stat_activity where {guard} and backend_xmin is null and backend_xid is null) = 1"
    )));

    let receiver = Receiver::start(Manner::Answer(200));
    // the same memory; and another one, as on another machine
    for state in ["state.sqlite", "elsewhere.sqlite"] {
        let words = format!(
            "audit checks --url {} --state {state} --ping-url {}",
            shop.server.url(),
            receiver.url
        );
        shop.sandbox
            .run(&words)
            .exits(3)
            .complains(&["another audit is running"]);
        let skipped = shop.sandbox.run(&format!("{words} --skip-if-running")).exits(0);
        assert_eq!((skipped.stdout.as_str(), skipped.stderr.as_str()), ("", ""));
    }
    assert_eq!(
        receiver.lines().iter().filter(|line| *line == "POST /geheim/3").count(),
        2
    );
    // another name is another audit
    let words = format!(
        "audit checks/stock.sql --name hourly --url {} --state hourly.sqlite",
        shop.server.url()
    );
    shop.sandbox.run(&words).exits(0);

    shop.server.exec("select pg_advisory_unlock(42)");
    first.wait().exits(0);
    shop.audit("").exits(0);
}

#[test]
fn two_audits_share_a_memory_in_a_database_one_after_the_other() {
    let shop = Shop::new();
    shop.server.exec("create database memory");
    shop.server.exec("create database other");
    let memory = shop.server.url_of("postgres@/memory");
    shop.check("slow", "", SLOW);
    shop.server.exec("select pg_advisory_lock(42)");
    let first = shop
        .sandbox
        .start(&format!("audit checks --url {} --state {memory}", shop.server.url()));
    let waits = "(select count(*) from pg_stat_activity where application_name = 'db-race/verify' and wait_event_type = 'Lock') = 1";
    wait_until("the first one is at it", Duration::from_secs(20), || {
        shop.server.is(waits)
    });
    // on another database, so that only the memory is in the way
    let words = format!(
        "audit checks --url {} --state {memory}",
        shop.server.url_of("postgres@/other")
    );
    shop.sandbox
        .run(&words)
        .exits(3)
        .complains(&["another audit is running with the memory"]);
    shop.server.exec("select pg_advisory_unlock(42)");
    first.wait().exits(0);
}
