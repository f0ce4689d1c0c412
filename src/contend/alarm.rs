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
}

/// The limit was passed.
#[derive(Debug)]
pub(crate) struct Passed;

impl Alarm {
    pub(crate) fn new() -> Alarm {
        Alarm {
            // rung at once, so the first limit sets it
            sleep: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// Awaits a future until a limit. The future is not dropped when the limit is passed, and can be awaited again.
    pub(crate) async fn until<F: Future>(
        &mut self,
        limit: Instant,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Passed> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(limit, cx).map(|()| Err(Passed)),
        })
        .await
    }

    fn poll(&mut self, limit: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.deadline() > limit {
            self.sleep.as_mut().reset(limit);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= limit {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(limit);
        }
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
            assert!(alarm.until(began + Duration::from_millis(limit), never).await.is_err());
            assert!(began.elapsed() >= Duration::from_millis(limit));
        }
        let ready = pin!(async { 1 });
        assert_eq!(alarm.until(Instant::now(), ready).await.unwrap(), 1);
    }
}
