//! `db-race audit`, by command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod elsewhere;
mod kills;
mod memory;
mod notify;
mod overlap;
mod proxy;
mod receiver;
mod retire;
mod schedulers;
mod show;
mod stores;
mod waivers;

use common::database::Database;
use common::run::Run;
use common::{Sandbox, TestServer};
use serde_json::Value;

/// A database with a table `item`, whose rows with a negative stock break the check `shop.stock`.
struct Shop {
    sandbox: Sandbox,
    server: TestServer,
}

const STOCK: &str = "select id, stock from item where stock < 0 order by id";

impl Shop {
    fn new() -> Shop {
        let sandbox = Sandbox::new();
        let server = sandbox.server();
        server.exec(
            "create table item (id int primary key, stock int not null);
             insert into item select n, 1 from generate_series(1, 2000) n",
        );
        let shop = Shop { sandbox, server };
        shop.check("stock", "", STOCK);
        shop
    }

    /// Writes a check `shop.<name>` with the key `id`.
    fn check(&self, name: &str, header: &str, sql: &str) {
        let text = format!(
            "-- /// db-race check\n-- id = \"shop.{name}\"\n-- title = \"Check {name}\"\n-- key = [\"id\"]\n{header}-- ///\n{sql}\n"
        );
        self.sandbox.write(&format!("checks/{name}.sql"), &text);
    }

    /// Exactly these items break the check.
    fn breaks(&self, ids: &[u32]) {
        let list = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        self.server.exec(&format!(
            "update item set stock = -1 where stock > 0 and id = any ('{{{list}}}');
             update item set stock = 1 where stock < 0 and id <> all ('{{{list}}}')"
        ));
    }

    /// Another connection.
    fn another(&self) -> Database {
        Database::connect(&self.server.url())
    }

    fn words(&self, flags: &str) -> String {
        format!("audit checks --url {} --state state.sqlite {flags}", self.server.url())
    }

    fn audit(&self, flags: &str) -> Run {
        self.sandbox.run(&self.words(flags))
    }

    /// The audit's part of a run's report, whatever the exit code.
    fn result(&self, flags: &str) -> Value {
        self.audit(&format!("{flags} --format json")).json()["audit"].clone()
    }
}

/// The ids of the findings in a list of an audit.
#[track_caller]
fn ids(audit: &Value, list: &str) -> Vec<u32> {
    let findings = audit[list].as_array().unwrap_or_else(|| panic!("no {list}: {audit}"));
    let mut ids: Vec<u32> = findings
        .iter()
        .map(|f| f["key"]["id"].as_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

/// New, still open, fixed and come back.
#[track_caller]
fn told(audit: &Value) -> [Vec<u32>; 4] {
    ["new", "still_open", "fixed", "came_back"].map(|list| ids(audit, list))
}
