//! What a server says of checks without running them.

use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::board::Range;
use super::look::{self, Look, Trouble};
use super::snapshot::Worker;
use super::sql::{self, Asked, Columns};
use super::{VerifyError, snapshot};
use crate::postgres::{Target, explain, read_text};
use crate::verify::lint::{Level, Problem};
use crate::verify::{Check, Options};

/// Rows of a table that nobody wants to read through unawares.
const MANY_ROWS: f32 = 1_000_000.0;

/// What is wrong with each check, by the server: its statement, its columns, its plan.
///
/// # Errors
/// [`VerifyError`] when there is no server to ask.
pub async fn inspect(target: &Target, checks: &[Check], options: &Options) -> Result<Vec<Vec<Problem>>, VerifyError> {
    let shared = snapshot::share(target, 1, options).await?;
    let mut found = Vec::new();
    for check in checks {
        let worker = &shared.workers[0];
        let problems = match one(worker, check, options, &shared.facts.taken_at).await {
            Ok(problems) => problems,
            Err(Trouble::Said(why)) => vec![Problem::new(Level::Error, why)],
            Err(Trouble::Server(error)) => vec![Problem::new(Level::Error, explain(&error))],
        };
        found.push(problems);
    }
    snapshot::release(&shared.workers).await;
    Ok(found)
}

async fn one(worker: &Worker, check: &Check, options: &Options, taken_at: &str) -> Result<Vec<Problem>, Trouble> {
    let client: &Client = &worker.connection;
    client.batch_execute(look::SAVEPOINT).await?;
    let looked = look_at(worker, check, options, taken_at).await;
    client.batch_execute(look::RELEASE).await?;
    looked
}

async fn look_at(worker: &Worker, check: &Check, options: &Options, taken_at: &str) -> Result<Vec<Problem>, Trouble> {
    let client: &Client = &worker.connection;
    if let Some(why) = check.off.as_ref().or(check.missing.as_ref()) {
        return Ok(vec![Problem::new(Level::Note, format!("it would be skipped: {why}"))]);
    }
    let range = Range { nth: 0, from: 0, to: 1 };
    let look = Look {
        check,
        options,
        taken_at,
        range: check.chunk.as_ref().map(|_| range),
        may_spread: true,
        only: None,
    };
    look::begin(worker, &look).await?;
    let names = look::declare(client, check).await?;
    let columns = Columns::of(check, check.grace.as_ref(), names).map_err(Trouble::Said)?;
    let (body, _) = check.statement();
    let asked = Asked {
        body: &body,
        columns: &columns,
        grace: check.grace.as_ref().map(|g| g.time),
        sample: 1,
        rows_max: 1,
        all_keys: false,
        only_known: false,
    };
    let mut params: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
    if asked.grace.is_some() {
        params.push((&taken_at, Type::TEXT));
    }
    let explained = format!("EXPLAIN (VERBOSE, FORMAT JSON)\n{}", sql::rows(&asked));
    let row = client.query_typed_one(&explained, &params).await;
    let row = row.map_err(|error| look::about_grace(check.grace.as_ref(), error.into()))?;
    let plan = read_text(&row, 0)
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or(Value::Null);
    let mut tables = Vec::new();
    read_whole(&plan, &mut tables);
    let mut problems = Vec::new();
    for (schema, name) in tables {
        let size = "SELECT reltuples FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname = $2";
        let row = client
            .query_typed_opt(size, &[(&schema, Type::TEXT), (&name, Type::TEXT)])
            .await?;
        let rows: f32 = row.map_or(Ok(0.0), |row| row.try_get(0))?;
        if rows >= MANY_ROWS && check.chunk.is_none() {
            problems.push(Problem::new(
                Level::Note,
                format!("it reads all of {schema}.{name}, about {rows:.0} rows; an index or `chunk` would help"),
            ));
        }
    }
    Ok(problems)
}

/// The tables that a plan reads from end to end.
fn read_whole(plan: &Value, found: &mut Vec<(String, String)>) {
    match plan {
        Value::Array(parts) => parts.iter().for_each(|part| read_whole(part, found)),
        Value::Object(node) => {
            let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
            let table = (text("Schema"), text("Relation Name"));
            if text("Node Type") == "Seq Scan" && !found.contains(&table) {
                found.push(table);
            }
            node.values().for_each(|part| read_whole(part, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_scans_are_found_wherever_they_are_in_a_plan() {
        let scan = serde_json::json!({"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "t"});
        let plan =
            serde_json::json!([{"Plan": {"Node Type": "Sort", "Plans": [scan, {"Node Type": "Index Scan"}, scan]}}]);
        let mut found = Vec::new();
        read_whole(&plan, &mut found);
        assert_eq!(found, [("public".to_string(), "t".to_string())]);
    }
}
