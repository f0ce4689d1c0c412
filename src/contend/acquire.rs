//! An attempt's connections.

use std::time::{Duration, Instant};

use futures_util::future;

use super::attempt::{Course, Tried};
use super::ending::Ending;
use super::session::Session;
use super::tally::PoolTally;
use crate::postgres::pool::{AcquireError, Lease};

/// A connection that has answered less than this ago is taken to be there.
const FRESH: Duration = Duration::from_micros(100);
/// Where there is no server, no session asks for a connection more often than this.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

impl Session<'_> {
    /// The connection it has kept, or one from the pool; none when the schedule is over before there is one, or the
    /// run stopped.
    pub(super) async fn connection(&mut self, course: &Course) -> Option<Result<Lease, AcquireError>> {
        if let Some(mut lease) = self.lease.take() {
            // one that has just answered is not looked at: the next answer tells as much
            let answered_at = self.answered_at.take();
            let has_answered = answered_at.is_some_and(|at| course.began.saturating_duration_since(at) < FRESH);
            if has_answered || !lease.is_closed() {
                return Some(Ok(lease));
            }
            self.arena.board.gave_back(self.seat);
        }
        self.arena.board.queued(self.seat);
        let answer = Box::pin(self.acquire(course, false)).await?;
        if let Ok(lease) = &answer {
            self.arena.board.took(self.seat, lease.pid);
        }
        Some(answer)
    }

    pub(super) async fn acquire(&self, course: &Course, nested: bool) -> Option<Result<Lease, AcquireError>> {
        let asked = Instant::now();
        let over = async {
            match course.until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = self.arena.pools[self.group.pool].acquire() => Some(answer),
            () = over => None,
            () = self.arena.stop.requested() => None,
        };
        let mut tally = self.arena.tally();
        let pool = &mut tally.groups[self.chair.group].pool;
        pool.wait.record(asked.elapsed());
        if let Some(Err(error)) = &answer {
            *slot(pool, error, nested) += 1;
        }
        answer
    }

    /// It got no connection.
    pub(super) async fn refused(&mut self, error: AcquireError) -> Tried {
        if !matches!(error, AcquireError::Timeout(_)) && !self.arena.pause(CONNECT_PAUSE).await {
            // a server that is gone refuses nobody
            return Tried::Interrupted;
        }
        let ending = Ending::refused(&error);
        self.arena.tally().refused(None, &ending);
        Tried::Ended(ending)
    }
}

/// The count that a failure to get a connection goes to.
fn slot<'a>(pool: &'a mut PoolTally, error: &AcquireError, nested: bool) -> &'a mut u64 {
    match error {
        AcquireError::Timeout(_) if nested => &mut pool.nested_timeouts,
        AcquireError::Timeout(_) => &mut pool.wait_timeouts,
        AcquireError::Slow(_) => &mut pool.create_timeouts,
        AcquireError::Full(_) => &mut pool.server_full,
        AcquireError::Connect(_) => &mut pool.connect_errors,
    }
}
