//! What was told to sessions, against what is stored.
//!
//! The scenario's `settle` query is asked for each attempt, after the round: a row means that it is stored.

use std::time::Duration;

use futures_util::pin_mut;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls, Statement};

use super::draw::{TextRow, draw, values};
use super::prepare::Prepared;
use super::tally::Tally;
use crate::outcome::Outcome;
use crate::postgres::{Text, explain};
use crate::report::Settled;
use crate::scenario::Plan;

/// Attempts that are named.
const EXAMPLES: usize = 10;

/// Awaits an answer; when it takes too long, it is cancelled on the server and still awaited.
async fn within<T>(
    client: &Client,
    limit: Duration,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    pin_mut!(query);
    loop {
        if let Ok(answer) = timeout(limit, query.as_mut()).await {
            return answer;
        }
        // one that doesn't get through is sent again
        let _ = client.cancel_token().cancel_query(NoTls).await;
    }
}

/// Looks every attempt up, and moves those in doubt to where they belong.
pub(crate) async fn settle(
    client: &Client,
    plan: &Plan,
    prepared: &Prepared,
    keys: &[TextRow],
    tally: &mut Tally,
) -> Option<Settled> {
    if plan.groups.iter().all(|g| g.settle.is_none()) {
        return None;
    }
    let mut settled = Settled {
        left_out: tally.ledger_left_out,
        ..Settled::default()
    };
    let pick = plan.pick();
    let mut statements: Vec<Option<Statement>> = vec![None; plan.groups.len()];
    for entry in std::mem::take(&mut tally.ledger) {
        let group = &plan.groups[entry.group];
        let Some(query) = &group.settle else { continue };
        let drawn = draw(plan.seed, entry.ticket, keys.len(), pick, &plan.params);
        let origins = &prepared.settle[entry.group];
        // it takes nothing from results
        let values = values(entry.ticket, &drawn, keys, &[], origins);
        let texts: Vec<Text<'_>> = values.iter().map(|v| Text(v.as_deref())).collect();
        let params: Vec<_> = texts.iter().map(|t| t as &(dyn ToSql + Sync)).collect();
        let statement = match &statements[entry.group] {
            Some(statement) => statement.clone(),
            None => match client.prepare(&query.statement.sql).await {
                Ok(statement) => statements[entry.group].insert(statement).clone(),
                Err(error) => {
                    settled.problem = Some(explain(&error));
                    break;
                }
            },
        };
        let found = match within(client, query.timeout, client.query(&statement, &params)).await {
            Ok(rows) => !rows.is_empty(),
            Err(error) => {
                settled.problem = Some(explain(&error));
                break;
            }
        };
        settled.asked += 1;
        settled.stored += u64::from(found);
        let name = format!(
            "{} {}, attempt {}",
            group.name, entry.ticket.session, entry.ticket.iteration
        );
        let mut example = |what: &str| {
            if settled.examples.len() < EXAMPLES {
                settled.examples.push(format!("{name}: {what}"));
            }
        };
        match (entry.outcome, found) {
            (Outcome::Accepted, false) => {
                example("accepted, and not stored");
                settled.lost += 1;
            }
            (Outcome::Accepted, true) => {}
            (Outcome::InDoubt, true) => {
                settled.doubts_stored += 1;
                tally.settle(entry, Outcome::Accepted);
            }
            (Outcome::InDoubt, false) => {
                settled.doubts_absent += 1;
                tally.settle(entry, Outcome::Refused);
            }
            (other, true) => {
                example(&format!("{}, and stored all the same", other.name()));
                settled.ghosts += 1;
            }
            (_, false) => {}
        }
    }
    Some(settled)
}
