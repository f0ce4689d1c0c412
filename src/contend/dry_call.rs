//! Which tables the steps write: each group's steps, once, in a transaction that is rolled back.
//!
//! A statement that inserts, updates or deletes holds RowExclusiveLock on the table until its transaction ends, whether
//! or not it found a row. A refused call rolls its locks back with everything else, so the next key is tried.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Error};

use super::draw::{TextRow, Ticket, draw, missing, values};
use super::ending::Ending;
use super::prepare::Prepared;
use crate::outcome::Outcome;
use crate::postgres::{Failure, Text, explain, lost, read_text};
use crate::scenario::{Plan, Refusal};

/// Keys that are tried for a group whose first calls are refused.
const TRIES: u32 = 5;

/// The tables, quoted and qualified. A group whose calls are all refused adds a note.
pub(crate) async fn written_tables(
    client: &Client,
    plan: &Plan,
    prepared: &Prepared,
    keys: &[TextRow],
    notes: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let mut tables = BTreeSet::new();
    let expected: Vec<Refusal> = plan
        .groups
        .iter()
        .flat_map(|g| &g.steps)
        .flat_map(|s| s.reject.clone())
        .collect();
    for (group, g) in plan.groups.iter().enumerate().filter(|(_, g)| g.gate.closes_tables()) {
        let mut refused = None;
        for number in 1..=TRIES.min(g.sessions) {
            let limit = g.steps.iter().map(|s| s.timeout.as_millis()).max().unwrap_or(0);
            client
                .batch_execute(&format!("BEGIN; SET LOCAL statement_timeout = {limit}"))
                .await?;
            let called = call(client, plan, prepared, keys, group, number).await;
            let written = match called {
                Ok(()) => locked(client).await,
                Err(error) => Err(error),
            };
            client.batch_execute("ROLLBACK").await?;
            match written {
                Ok(written) => {
                    tables.extend(written);
                    refused = None;
                    break;
                }
                Err(error) if lost(&error) => return Err(error),
                // a refusal that the scenario expects is how this group is meant to end
                Err(error) if Ending::of(&Failure::from(&error), &expected).outcome() == Outcome::Rejected => {}
                Err(error) => refused = Some(explain(&error)),
            }
        }
        if let Some(why) = refused {
            notes.push(format!(
                "a dry call of {} was refused ({why}), so the write gate does not know what it writes; name the tables in gate_tables",
                g.name
            ));
        }
    }
    Ok(tables.into_iter().collect())
}

async fn call(
    client: &Client,
    plan: &Plan,
    prepared: &Prepared,
    keys: &[TextRow],
    group: usize,
    number: u32,
) -> Result<(), Error> {
    let before: u32 = plan.groups[..group].iter().map(|g| g.sessions).sum();
    let ticket = Ticket {
        round: 0,
        session: before + number,
        number,
        iteration: 1,
    };
    let pick = plan.pick();
    let drawn = draw(plan.seed, ticket, keys.len(), pick, &plan.params);
    let mut results: Vec<Option<TextRow>> = Vec::new();
    for (i, step) in plan.groups[group].steps.iter().enumerate() {
        let origins = &prepared.origins[group][i];
        if missing(&results, origins).is_some() {
            return Ok(());
        }
        let values = values(ticket, &drawn, keys, &results, origins);
        let texts: Vec<Text<'_>> = values.iter().map(|v| Text(v.as_deref())).collect();
        let params: Vec<_> = texts
            .iter()
            .map(|t| t as &(dyn tokio_postgres::types::ToSql + Sync))
            .collect();
        let rows = client.query(step.statement.sql.as_str(), &params).await?;
        results.push(
            rows.first()
                .map(|row| (0..row.len()).map(|i| read_text(row, i)).collect()),
        );
    }
    Ok(())
}

async fn locked(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "select distinct format('%I.%I', n.nspname, c.relname)
             from pg_catalog.pg_locks l
             join pg_catalog.pg_class c on c.oid = l.relation
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where l.pid = pg_backend_pid() and l.granted and l.locktype = 'relation'
               and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
               and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
               and c.relkind in ('r', 'p') and c.relpersistence <> 't'
               and n.nspname not in ('pg_catalog', 'information_schema')",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
