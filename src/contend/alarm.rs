//! A time limit for one statement after another, with one timer for all of them.
//!
//! Arming and disarming a timer for each statement costs more than the rest of a short attempt. An alarm that is set too
//! early for the current limit is set anew when it rings, which with limits of seconds hardly ever happens.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The timer of a session.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it rings; none before it is set.
    rings: Option<Instant>,
}

/// The limit was passed.
#[derive(Debug)]
pub(crate) struct Passed;

impl Alarm {
    pub(crate) fn new() -> Alarm {
        Alarm {
            // rung at once, so the first limit sets it
            sleep: Box::pin(sleep(Duration::ZERO)),
            rings: None,
        }
    }

    /// Awaits a future, begun at that moment, until a limit. The future is not dropped when the limit is passed, and can be
    /// awaited again. All that an alarm is used for is done in one task.
    pub(crate) async fn until<F: Future>(
        &mut self,
        began: Instant,
        limit: Instant,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Passed> {
        // one that is set already, and rings early enough, need not be touched: it wakes this task
        let mut is_set = self.rings.is_some_and(|rings| rings > began && rings <= limit);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if std::mem::take(&mut is_set) => Poll::Pending,
            Poll::Pending => self.poll(limit, cx).map(|()| Err(Passed)),
        })
        .await
    }

    fn poll(&mut self, limit: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.deadline() > limit {
            self.sleep.as_mut().reset(limit);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            self.rings = None;
            if Instant::now() >= limit {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(limit);
        }
        self.rings = Some(self.sleep.deadline());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn every_limit_counts_whatever_was_set_before() {
        let mut alarm = Alarm::new();
        for limit in [50, 5, 20] {
            let began = Instant::now();
            let never = pin!(std::future::pending::<()>());
            let limit_at = began + Duration::from_millis(limit);
            assert!(alarm.until(began, limit_at, never).await.is_err());
            assert!(began.elapsed() >= Duration::from_millis(limit));
        }
        let ready = pin!(async { 1 });
        let now = Instant::now();
        assert_eq!(alarm.until(now, now, ready).await.unwrap(), 1);
    }
}
