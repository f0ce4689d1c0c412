//! Before a race: every connection of a pool, with its statements prepared.

use std::time::Duration;

use futures_util::future;

use super::ContendError;
use super::prepare::{COMMIT, Prepared};
use crate::postgres::pool::{AcquireError, Pool};
use crate::postgres::{Failure, interruptible};
use crate::scenario::Plan;
use crate::stop::Stop;

/// Opens all connections of a pool and prepares the statements of its groups on each.
pub(super) async fn warm_up(
    plan: &Plan,
    index: usize,
    prepared: &Prepared,
    pool: &Pool,
    stop: &Stop,
) -> Result<(), ContendError> {
    let mut steps: Vec<(usize, &str)> = Vec::new();
    for (g, group) in plan.groups.iter().enumerate().filter(|(_, g)| g.pool == index) {
        let sql = group.steps.iter().map(|s| s.statement.sql.as_str());
        steps.extend((prepared.first_statement[g]..).zip(sql));
        if let Some((number, begin)) = &prepared.begin[g] {
            steps.extend([(*number, begin.as_str()), (prepared.commit, COMMIT)]);
        }
    }
    let mut leases = Vec::new();
    for lease in future::join_all((0..pool.capacity()).map(|_| pool.acquire_early())).await {
        leases.push(lease.map_err(|error| match error {
            AcquireError::Connect(error) | AcquireError::Full(error) => ContendError::Connect(error),
            timeout => ContendError::Lost(timeout.to_string()),
        })?);
    }
    let steps = &steps;
    let prepared = leases.iter_mut().map(|lease| {
        let (mut talk, loan) = lease.talk();
        let statements = async move {
            for (number, sql) in steps {
                talk.prepare(*number, sql).await?;
            }
            Ok(())
        };
        interruptible(loan, stop, Duration::ZERO, statements)
    });
    for result in future::join_all(prepared).await {
        result.map_err(|failure: Failure| ContendError::Lost(failure.to_string()))?;
    }
    Ok(())
}
