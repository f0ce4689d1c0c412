//! An audit, as somebody else's parsers understand it.

use serde_json::Value;

use crate::common::Sandbox;
use crate::parsers::parsed_all;

#[test]
fn what_is_new_open_and_fixed_and_also_when_nothing_is_said() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    server.exec("create table item (id int primary key, stock int); insert into item values (1, -1), (2, -1), (3, 0)");
    sandbox.write(
        "checks/stock.sql",
        "-- /// db-race check\n-- id = \"stock\"\n-- title = \"Stock\"\n-- key = [\"id\"]\n-- ///\nselect id, stock from item where stock < 0",
    );
    let audit = format!(
        "audit checks --state memory.sqlite --notify-on change --url {} --report prometheus=a.prom --report json=a.json \
         --report junit=a.xml",
        server.url()
    );
    let path = |name: &str| sandbox.dir().join(name);
    let seen = || {
        parsed_all([
            ("openmetrics", &path("a.prom")),
            ("json", &path("a.json")),
            ("junit", &path("a.xml")),
        ])
    };
    let metric = |samples: &Value, name: &str| {
        let name = format!("db_race_audit_{name}");
        let sample = samples.as_array().unwrap().iter().find(|s| s["name"] == *name).cloned();
        sample.map(|s| s["value"].as_f64().unwrap())
    };
    sandbox.run(&audit).exits(2).shows(&["new: 2"]);
    if let Some([samples, ..]) = seen() {
        assert_eq!(
            (metric(&samples, "open"), metric(&samples, "new")),
            (Some(2.0), Some(2.0))
        );
    }
    // nothing has changed: stdout is silent, and the files are of this run
    for name in ["a.prom", "a.json", "a.xml"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    assert_eq!(sandbox.run(&audit).exits(2).stdout, "");
    if let Some([samples, ..]) = seen() {
        assert_eq!(
            (metric(&samples, "open"), metric(&samples, "new")),
            (Some(2.0), Some(0.0))
        );
        assert!(metric(&samples, "oldest_open_timestamp_seconds").unwrap() > 1.7e9);
    }
    server.exec("update item set stock = 0");
    sandbox.run(&audit).exits(0).shows(&["fixed: 2"]);
    if let Some([samples, _, junit]) = seen() {
        assert_eq!(
            (metric(&samples, "open"), metric(&samples, "fixed")),
            (Some(0.0), Some(2.0))
        );
        assert_eq!(junit["failures"], 0);
    }
}
