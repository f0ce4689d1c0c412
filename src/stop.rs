//! A request to stop, seen by everything that waits.

use std::sync::Arc;

use tokio::sync::watch;

/// Asks a run to stop: it starts nothing more, and reports what it has seen. Clones ask and hear the same.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            sender: Arc::new(watch::channel(false).0),
        }
    }
}

impl Stop {
    /// Asks.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Completes when somebody asks.
    pub async fn requested(&self) {
        let mut receiver = self.sender.subscribe();
        // the sender lives as long as self
        let _ = receiver.wait_for(|asked| *asked).await;
    }
}
