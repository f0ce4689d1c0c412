//! `db-race contend`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod bundled;
mod deadlocks;
mod gates;
mod hanging;
mod interrupt;
mod limits;
mod moments;
mod outcomes;
mod places;
mod pool;
mod progress;
mod rates;
mod reports;
mod retries;
mod rules;
mod schedules;
mod server_death;
mod settled;
mod transactions;
mod values;
mod waits;

use serde_json::Value;

use common::run::{Run, Running};
use common::{Sandbox, TestServer};

/// The outcomes of all attempts that were met at all, with their counts.
fn outcomes(counts: &Value) -> Vec<(&str, u64)> {
    let counts = counts.as_object().unwrap().iter();
    let mut met: Vec<(&str, u64)> = counts
        .map(|(name, count)| (name.as_str(), count.as_u64().unwrap()))
        .collect();
    met.retain(|(_, count)| *count > 0);
    met
}

/// A list in the report.
#[track_caller]
fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// Starts a scenario's race on a server, without the serial control; the text lacks but its title.
fn start(sandbox: &Sandbox, server: &TestServer, text: &str) -> Running {
    let file = sandbox.write("race.toml", &format!("title = \"a race\"\n{text}"));
    sandbox.start(&format!(
        "contend {file} --url {} --no-control --format json",
        server.url()
    ))
}

/// Races a scenario on a server, without the serial control; the text lacks but its title.
#[track_caller]
fn race(sandbox: &Sandbox, server: &TestServer, text: &str) -> Run {
    start(sandbox, server, text).wait()
}

/// How a group fared.
#[track_caller]
fn group<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = list(&report["race"]["group_results"])
        .iter()
        .find(|g| g["group"] == name);
    found.unwrap_or_else(|| panic!("no group {name}: {report:#}"))
}

/// How a step fared.
#[track_caller]
fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = list(&report["race"]["steps"]).iter().find(|s| s["step"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {report:#}"))
}

/// A number in the report.
#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A count in the report.
#[track_caller]
fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

/// A server with a table `done`, and `work(session, seconds)`, which notes there when it began and ended. A call that is
/// cancelled leaves no row.
fn server_with_work(sandbox: &Sandbox) -> TestServer {
    let server = sandbox.server();
    server.exec(
        "create table done (session int, began timestamptz, ended timestamptz);
         create function work(p_session int, p_seconds float) returns void language plpgsql as $$
         declare
             v_began timestamptz := clock_timestamp();
         begin
             perform pg_sleep(p_seconds);
             insert into done values (p_session, v_began, clock_timestamp());
         end $$",
    );
    server
}

/// How many calls of `work` ran at once, at the most.
fn most_at_once(server: &TestServer) -> u32 {
    let sql = "select max(n) from (select count(*) as n from done a
               join done b on b.began <= a.began and b.ended > a.began group by a.ctid) as at_once";
    server.value(sql).parse().unwrap()
}
