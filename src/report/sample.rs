//! A race as a sample of a sweep.

use std::time::Duration;

use super::{Race, Times};
use crate::scenario::Figure;
use crate::sweep::Sample;

impl Race {
    /// What a sweep takes of it; none when it was cut short.
    pub fn sample(&self) -> Option<Sample> {
        let lasted_ms: f64 = self.rounds.iter().map(|r| r.duration_ms).sum();
        if self.cut_short.is_some() || lasted_ms <= 0.0 || self.attempts.total() == 0 {
            return None;
        }
        let p95 = |of: &mut dyn Iterator<Item = &Times>| {
            let mut all = Times::default();
            of.for_each(|times| all.merge(times));
            let figure = all.figure(Figure::Percentile(95.0)).unwrap_or(Duration::ZERO);
            figure.as_secs_f64() * 1e3
        };
        let answered = self.attempts.accepted + self.attempts.rejected;
        Some(Sample {
            per_second: answered as f64 / (lasted_ms / 1e3),
            p95_ms: p95(&mut self.group_results.iter().map(|g| &g.latency)),
            wait_p95_ms: p95(&mut self.pools.iter().map(|p| &p.wait)),
            timeouts: self.pools.iter().map(|p| p.timeouts).sum(),
            lock_waits: self.rounds.iter().map(|r| r.lock_waits).sum(),
            deadlocks: self.rounds.iter().map(|r| r.deadlocks).sum(),
            causes: self.pools.iter().flat_map(|p| &p.causes).map(|c| c.cause).collect(),
            lasted_ms,
        })
    }
}
