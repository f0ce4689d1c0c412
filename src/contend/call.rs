//! One statement, sent and answered, within time limits.

use std::time::Duration;

use futures_util::pin_mut;
use tokio::time::{Instant, timeout};

use super::alarm::Alarm;
use super::board::Wave;
use super::ending::Ending;
use crate::outcome::Outcome;
use crate::postgres::pool::Loan;
use crate::postgres::{Cancel, Failure};
use crate::scenario::Refusal;

/// How long a cancelled statement may take to say so, before its connection is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long a statement may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// When it is sent.
    pub(crate) from: std::time::Instant,
    /// From when it is sent, or let go by the gate if that is later.
    pub(crate) step: Duration,
    /// In any case.
    pub(crate) until: Option<std::time::Instant>,
}

/// Awaits an answer within limits.
///
/// When a limit is passed, the statement is cancelled on the server and still awaited: a dropped future would leave
/// the server's process running and holding its locks.
pub(crate) async fn within<T>(
    alarm: &mut Alarm,
    loan: &Loan,
    query: impl Future<Output = Result<T, Failure>>,
    expected: &[Refusal],
    limits: Limits,
    wave: Option<&Wave>,
) -> Result<T, Ending> {
    pin_mut!(query);
    let sent: Instant = limits.from.into();
    let sooner = |limit: Instant| limits.until.map_or(limit, |until| limit.min(until.into()));
    let mut limit = sooner(sent + limits.step);
    let mut from = sent;
    let answer = loop {
        if let Ok(answer) = alarm.until(from, limit, query.as_mut()).await {
            break answer;
        }
        // the time at the gate is not the step's
        let now = Instant::now();
        from = now;
        limit = match wave.map(|w| w.opened.get()) {
            None => limit,
            Some(None) => sooner(now + limits.step),
            Some(Some(opened)) => sooner(sent.max((*opened).into()) + limits.step),
        };
        if limit > now {
            continue;
        }
        // whether or not the request goes through, the answer tells; it is rare, and boxed to keep the future small
        let cancel = Box::pin(loan.cancel());
        let _ = timeout(CANCEL_GRACE, cancel).await;
        let now = Instant::now();
        match alarm.until(now, now + CANCEL_GRACE, query.as_mut()).await {
            Ok(answer) => break answer,
            Err(_) => {
                return Err(Ending::local(
                    Outcome::InDoubt,
                    "the server did not answer a cancel request",
                ));
            }
        }
    };
    answer.map_err(|error| Ending::of(&error, expected))
}
