//! One statement, sent and answered, within a time limit.

use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{NoTls, Row};

use super::board::Wave;
use super::draw::TextRow;
use super::ending::Ending;
use crate::outcome::Outcome;
use crate::postgres::pool::Lease;
use crate::postgres::{Text, read_text};
use crate::scenario::Step;

/// How long a cancelled statement may take to say so, before its connection is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// Runs a statement within the step's time limit, and keeps the first row as text.
///
/// When the limit is passed, the statement is cancelled on the server and still awaited: a dropped future would leave
/// the server's process running and holding its locks.
pub(crate) async fn call(
    lease: &Lease,
    statement: &tokio_postgres::Statement,
    values: &[Option<String>],
    step: &Step,
    wave: Option<&Wave>,
) -> Result<Option<TextRow>, Ending> {
    let texts: Vec<Text<'_>> = values.iter().map(|v| Text(v.as_deref())).collect();
    let query = async {
        let rows = lease.query_raw(statement, texts).await?;
        pin_mut!(rows);
        let mut first: Option<Row> = None;
        while let Some(row) = rows.next().await {
            first.get_or_insert(row?);
        }
        Ok::<_, tokio_postgres::Error>(first)
    };
    pin_mut!(query);
    let sent = Instant::now();
    let mut limit = sent + step.timeout;
    let answer = loop {
        if let Ok(answer) = timeout_at(limit, query.as_mut()).await {
            break answer;
        }
        // the time at the gate is not the step's
        let now = Instant::now();
        limit = match wave.map(|w| w.opened.get()) {
            None => limit,
            Some(None) => now + step.timeout,
            Some(Some(opened)) => sent.max((*opened).into()) + step.timeout,
        };
        if limit > now {
            continue;
        }
        // whether or not the request goes through, the answer tells
        let _ = timeout(CANCEL_GRACE, lease.cancel_token().cancel_query(NoTls)).await;
        match timeout(CANCEL_GRACE, query).await {
            Ok(answer) => break answer,
            Err(_) => {
                return Err(Ending::local(
                    Outcome::InDoubt,
                    "the server did not answer a cancel request",
                ));
            }
        }
    };
    let row = answer.map_err(|error| Ending::of(&error, &step.reject))?;
    Ok(row.map(|row| (0..row.len()).map(|i| read_text(&row, i)).collect()))
}
