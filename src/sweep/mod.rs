//! A scenario at several sizes of its pool, or of its group of sessions: how throughput follows, and which size is enough.
//! Pure; `cli/sweep.rs` makes the runs.

mod knee;
mod sizes;

use serde::Serialize;

use crate::postgres::ServerFacts;

pub use knee::{Knee, KneeKind, knee, show_rate};
pub use sizes::{Sizes, order};

/// The version of the JSON form.
pub const SCHEMA: &str = "db-race/sweep/1";
/// Runs whose throughput differs by more than this part of their median say little.
const NOISY: f64 = 0.25;
/// A shorter run is mostly its own beginning and end.
const RUN_MIN_MS: f64 = 500.0;

/// A sweep, as far as it came.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The version of db-race.
    pub version: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// `pool` or `sessions`.
    pub of: &'static str,
    /// Runs of each size that were asked for.
    pub repeats: u32,
    /// What was measured, by rising size.
    pub points: Vec<Point>,
    /// Which size is enough; none when fewer than two sizes were measured.
    pub knee: Option<Knee>,
    /// Where it ran.
    pub server: ServerFacts,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
    /// The command that does the same again.
    pub reproduce: String,
}

/// One size, over its runs.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Connections, or sessions.
    pub size: u32,
    /// Runs measured.
    pub runs: u32,
    /// Attempts a second that got an answer: accepted or rejected.
    pub per_second: Spread,
    /// The 95th percentile of whole attempts, median of the runs, in milliseconds.
    pub p95_ms: f64,
    /// The 95th percentile of waits for a connection, median of the runs, in milliseconds.
    pub wait_p95_ms: f64,
    /// Attempts that got no connection in time, all runs.
    pub timeouts: u64,
    /// Waits for locks seen, all runs.
    pub lock_waits: u64,
    /// Deadlocks, all runs.
    pub deadlocks: u64,
    /// Why the pools gave no connection, most frequent first.
    pub causes: Vec<&'static str>,
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// What one run measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Attempts a second that got an answer.
    pub per_second: f64,
    /// The 95th percentile of whole attempts.
    pub p95_ms: f64,
    /// The 95th percentile of waits for a connection.
    pub wait_p95_ms: f64,
    /// Attempts that got no connection in time.
    pub timeouts: u64,
    /// Waits for locks seen.
    pub lock_waits: u64,
    /// Deadlocks.
    pub deadlocks: u64,
    /// Why the pools gave no connection.
    pub causes: Vec<&'static str>,
    /// How long its rounds took.
    pub lasted_ms: f64,
}

/// A size, from its runs.
pub fn point(size: u32, samples: &[Sample]) -> Point {
    let sum = |of: fn(&Sample) -> u64| samples.iter().map(of).sum();
    let spread = |of: fn(&Sample) -> f64| spread(samples.iter().map(of).collect());
    let mut causes: Vec<(&'static str, usize)> = Vec::new();
    for cause in samples.iter().flat_map(|s| &s.causes) {
        match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, n)) => *n += 1,
            None => causes.push((cause, 1)),
        }
    }
    causes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    Point {
        size,
        runs: samples.len() as u32,
        per_second: spread(|s| s.per_second),
        p95_ms: spread(|s| s.p95_ms).median,
        wait_p95_ms: spread(|s| s.wait_p95_ms).median,
        timeouts: sum(|s| s.timeouts),
        lock_waits: sum(|s| s.lock_waits),
        deadlocks: sum(|s| s.deadlocks),
        causes: causes.into_iter().map(|(cause, _)| cause).collect(),
    }
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match (values.first(), values.last()) {
        (Some(min), Some(max)) => Spread {
            median: (values[(n - 1) / 2] + values[n / 2]) / 2.0,
            min: *min,
            max: *max,
        },
        _ => Spread::default(),
    }
}

/// What makes the figures doubtful.
pub fn doubts(points: &[Point], samples: &[Sample]) -> Vec<String> {
    let mut notes = Vec::new();
    let lasted = spread(samples.iter().map(|s| s.lasted_ms).collect()).median;
    if !samples.is_empty() && lasted < RUN_MIN_MS {
        notes.push(format!(
            "a run lasted {lasted:.0} ms: give the groups a schedule with a duration of a second or more, or these figures say little"
        ));
    }
    let width = |p: &&Point| p.per_second.max - p.per_second.min > NOISY * p.per_second.median;
    let noisy: Vec<String> = points.iter().filter(width).map(|p| p.size.to_string()).collect();
    if !noisy.is_empty() {
        notes.push(format!(
            "the runs of {} differ by more than {:.0}%: a quieter machine, longer runs or a larger --repeat would say more",
            noisy.join(", "),
            NOISY * 100.0
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_of_runs_lies_between_two() {
        let of = |values: &[f64]| spread(values.to_vec()).median;
        assert_eq!(
            (of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0, 2.0, 3.0]), of(&[])),
            (2.0, 2.5, 0.0)
        );
    }
}
