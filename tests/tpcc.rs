//! The twelve consistency conditions of TPC-C against each other: a mutation is found by the conditions that it breaks, and by no others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::database::Database;
use common::{Sandbox, TestServer, project};
use serde_json::{Value, json};

fn pack() -> PathBuf {
    project().join("checks/packs/tpcc")
}

fn fixture(name: &str) -> String {
    fs::read_to_string(pack().join("fixtures").join(name)).unwrap()
}

/// A server with a database `loaded`.
fn loaded(sandbox: &Sandbox) -> TestServer {
    let server = sandbox.server();
    server.exec("create database loaded");
    Database::connect(&server.url_of("postgres@/loaded")).exec(&fixture("schema.sql"));
    server
}

/// A copy of it, with what a fixture does.
fn mutated(server: &TestServer, mutation: &str) -> String {
    server.exec("drop database if exists mutated with (force)");
    server.exec("create database mutated template loaded");
    let url = server.url_of("postgres@/mutated");
    Database::connect(&url).exec(mutation);
    url
}

/// What became of the conditions, as `c01`, with their counts.
fn judge(sandbox: &Sandbox, url: &str) -> Vec<(String, String, u64)> {
    let words = format!(
        "verify {} --url {url} --allow-superuser --format json",
        pack().display()
    );
    let report = sandbox.run(&words).json();
    let checks = report["checks"].as_array().unwrap().iter();
    let outcome = |check: &Value| {
        let (id, decision) = (check["id"].as_str().unwrap(), check["decision"].as_str().unwrap());
        let condition = &id["tpcc.".len().."tpcc.c00".len()];
        (
            condition.to_string(),
            decision.to_string(),
            check["count"].as_u64().unwrap(),
        )
    };
    checks.map(outcome).collect()
}

fn violated(outcomes: &[(String, String, u64)]) -> Vec<&str> {
    let violated = outcomes.iter().filter(|(_, decision, _)| decision == "violated");
    violated.map(|(condition, _, _)| condition.as_str()).collect()
}

#[test]
fn a_mutation_is_found_by_the_conditions_that_it_breaks_and_by_no_others() {
    let sandbox = Sandbox::new();
    let server = loaded(&sandbox);
    let mut names: Vec<String> = fs::read_dir(pack().join("fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "schema.sql");
    let mut proven = std::collections::BTreeSet::new();
    for name in names {
        let mutation = fixture(&name);
        let line = mutation
            .lines()
            .find_map(|line| line.strip_prefix("-- breaks: "))
            .expect("what it breaks");
        let breaks: Vec<String> = serde_json::from_str(line).unwrap();
        let outcomes = judge(&sandbox, &mutated(&server, &mutation));
        assert_eq!(violated(&outcomes), breaks, "{name}");
        assert!(
            outcomes.iter().all(|(_, decision, _)| decision != "could_not_decide"),
            "{name}: {outcomes:?}"
        );
        proven.extend(breaks);
    }
    assert_eq!(proven.len(), 12, "{proven:?}");
}

/// go-tpc's check of condition 6, put into our words: a left join from orders, compared by `<>`.
const LEFT_JOIN_AND_UNEQUAL: &str = "
    (select count(*)
     from orders
     left join (
         select ol_w_id, ol_d_id, ol_o_id, count(*) as lines from order_line group by 1, 2, 3
     ) as l on (ol_w_id, ol_d_id, ol_o_id) = (o_w_id, o_d_id, o_id)
     where o_ol_cnt <> lines)";

#[test]
fn lost_lines_that_a_left_join_does_not_see_are_found() {
    let sandbox = Sandbox::new();
    let server = loaded(&sandbox);
    for (name, left_join_finds, we_find) in [
        ("c06_lines_of_order.sql", 2, 2),
        ("c06_lines_of_order.all_lines_lost.sql", 0, 1),
        ("c06_lines_of_order.wrong_order.sql", 0, 2),
    ] {
        let url = mutated(&server, &fixture(name));
        let found = Database::connect(&url).value(&format!("select {LEFT_JOIN_AND_UNEQUAL}"));
        assert_eq!(found, left_join_finds.to_string(), "{name}");
        let outcomes = judge(&sandbox, &url);
        let c06 = outcomes.iter().find(|(condition, _, _)| condition == "c06").unwrap();
        assert_eq!(c06.2, we_find, "{name}");
    }
}

#[test]
fn the_condition_of_the_initial_population_is_skipped_once_there_was_an_order() {
    let sandbox = Sandbox::new();
    let server = loaded(&sandbox);
    let decision = |url: &str| judge(&sandbox, url).into_iter().find(|(c, _, _)| c == "c11").unwrap().1;
    assert_eq!(decision(&server.url_of("postgres@/loaded")), "held");
    // New-Order, and Delivery of the oldest
    let url = mutated(
        &server,
        "update district set d_next_o_id = 3002 where (d_w_id, d_id) = (1, 1);
         insert into orders values (1, 1, 3001, 1, null, 1);
         insert into new_order values (1, 1, 3001);
         insert into order_line values (1, 1, 3001, 1, null, 1);
         delete from new_order where (no_w_id, no_d_id, no_o_id) = (1, 1, 2101);
         update orders set o_carrier_id = 1 where (o_w_id, o_d_id, o_id) = (1, 1, 2101);
         update order_line set ol_delivery_d = now() where (ol_w_id, ol_d_id, ol_o_id) = (1, 1, 2101);
         update customer set c_balance = c_balance + 23 where (c_w_id, c_d_id, c_id) = (1, 1, 1 + 2101 % 30)",
    );
    assert_eq!(decision(&url), "skipped");
    assert_eq!(json!(violated(&judge(&sandbox, &url))), json!([]));
}
