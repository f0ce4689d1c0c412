//! A request to stop, seen by everything that waits.

use std::sync::Arc;

use tokio::sync::watch;

/// Asks a run to stop: it starts nothing more, and reports what it has seen. Clones ask and hear the same.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Arc<watch::Sender<Asked>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    /// What runs may end by itself within a while.
    Stop,
    /// What runs is ended now.
    AtOnce,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            sender: Arc::new(watch::channel(Asked::Nothing).0),
        }
    }
}

impl Stop {
    /// Asks.
    pub fn request(&self) {
        self.raise(Asked::Stop);
    }

    /// Asks, and asks not to wait for anything.
    pub fn insist(&self) {
        self.raise(Asked::AtOnce);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        *self.sender.borrow() >= Asked::Stop
    }

    /// Whether somebody asked not to wait for anything.
    pub fn is_insisted(&self) -> bool {
        *self.sender.borrow() >= Asked::AtOnce
    }

    /// Completes when somebody asks.
    pub async fn requested(&self) {
        self.reaches(Asked::Stop).await;
    }

    /// Completes when somebody asks not to wait for anything.
    pub async fn insisted(&self) {
        self.reaches(Asked::AtOnce).await;
    }

    /// Waits; shorter when somebody asks not to.
    pub(crate) async fn grace(&self, time: std::time::Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.insisted() => {}
        }
    }

    fn raise(&self, to: Asked) {
        self.sender.send_if_modified(|asked| {
            let is_more = to > *asked;
            *asked = to.max(*asked);
            is_more
        });
    }

    async fn reaches(&self, level: Asked) {
        let mut receiver = self.sender.subscribe();
        // the sender lives as long as self
        let _ = receiver.wait_for(|asked| *asked >= level).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn who_insists_also_asks_and_nobody_takes_it_back() {
        let stop = Stop::default();
        assert!(!stop.is_requested() && stop.requested().now_or_never().is_none());
        stop.request();
        assert!(stop.is_requested() && !stop.is_insisted() && stop.requested().now_or_never().is_some());
        stop.insist();
        stop.request();
        assert!(stop.is_insisted() && stop.clone().insisted().now_or_never().is_some());
    }
}
