//! A scenario at several sizes of its pool, or of its group of sessions: how throughput follows, and which size is enough.
//! Pure; `cli/sweep.rs` makes the runs.
//!
//! The *knee* is measured, not fitted. The universal scalability law is the usual curve for this, but it fits a convoy behind one
//! lock badly: with a hot row on two cores its peak came out at 4.9 clients and lay at 2. Such a convoy is what people sweep for.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::postgres::ServerFacts;
use crate::report::{Race, Times};
use crate::scenario::Figure;

/// The version of the JSON form.
pub const SCHEMA: &str = "db-race/sweep/1";
/// What is within this part of the best is as good as the best.
const TOLERANCE: f64 = 0.05;
/// Runs whose throughput differs by more than this part of their median say little.
const NOISY: f64 = 0.25;
/// A shorter run is mostly its own beginning and end.
const RUN_MIN_MS: f64 = 500.0;

/// Sizes as they are written: `5..100`, `5,10,20` or `8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// From, to; both included.
    Range(u32, u32),
    /// These, in rising order.
    List(Vec<u32>),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let wrong = || format!("`{text}` is no sizes; expected like 5..100, 5,10,20 or 8, from 1 to 10000");
        let size = |text: &str| match text.trim().parse() {
            Ok(n) if (1..=10_000).contains(&n) => Ok(n),
            _ => Err(wrong()),
        };
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (size(from)?, size(to.trim_start_matches('='))?);
            return if from < to {
                Ok(Sizes::Range(from, to))
            } else {
                Err(wrong())
            };
        }
        let mut sizes = text.split(',').map(size).collect::<Result<Vec<u32>, String>>()?;
        sizes.sort_unstable();
        sizes.dedup();
        Ok(Sizes::List(sizes))
    }
}

impl Sizes {
    /// The sizes to measure. Those of a range grow by the same factor: from 5 to 10 matters as much as from 50 to 100.
    pub fn points(&self, most: u32) -> Vec<u32> {
        let (from, to) = match self {
            Sizes::List(sizes) => return sizes.clone(),
            Sizes::Range(from, to) => (f64::from(*from), f64::from(*to)),
        };
        let steps = f64::from(most.max(2) - 1);
        let mut sizes: Vec<u32> = (0..most.max(2))
            .map(|i| (from * (to / from).powf(f64::from(i) / steps)).round() as u32)
            .collect();
        sizes.dedup();
        sizes
    }

    /// The only size.
    pub fn single(&self) -> Option<u32> {
        match self {
            Sizes::List(sizes) if sizes.len() == 1 => sizes.first().copied(),
            _ => None,
        }
    }
}

/// The order of the runs, as indices of sizes: every size once, then every size again, the other way round. A machine that gets
/// slower with time then slows all sizes alike.
pub fn order(sizes: usize, repeats: u32) -> Vec<usize> {
    let pass = |repeat: u32| -> Vec<usize> {
        match repeat % 2 {
            0 => (0..sizes).collect(),
            _ => (0..sizes).rev().collect(),
        }
    };
    (0..repeats).flat_map(pass).collect()
}

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

/// The smallest size that is as good as the best.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Knee {
    /// The size.
    pub size: u32,
    /// The smallest size that it may be, given the spread of the runs.
    pub from: u32,
    /// The largest size that it may be.
    pub to: u32,
    /// The size with the best throughput.
    pub best: u32,
    /// What can be said of it.
    pub kind: KneeKind,
    /// The same in words.
    pub text: String,
}

/// What can be said of a knee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KneeKind {
    /// Smaller sizes do less, larger ones add nothing.
    Measured,
    /// The largest size is the best, and the one before it is not as good: it may lie further on.
    StillRising,
    /// The smallest size is as good as the best: the differences are within noise.
    WithinNoise,
}

/// What one run measured.
#[derive(Clone, Debug)]
pub struct Sample {
    per_second: f64,
    p95_ms: f64,
    wait_p95_ms: f64,
    timeouts: u64,
    lock_waits: u64,
    deadlocks: u64,
    causes: Vec<&'static str>,
    lasted_ms: f64,
}

impl Sample {
    /// What a race comes to; none when it was cut short.
    pub fn of(race: &Race) -> Option<Sample> {
        let lasted_ms: f64 = race.rounds.iter().map(|r| r.duration_ms).sum();
        if race.cut_short.is_some() || lasted_ms <= 0.0 || race.attempts.total() == 0 {
            return None;
        }
        let p95 = |of: &mut dyn Iterator<Item = &Times>| {
            let mut all = Times::default();
            of.for_each(|times| all.merge(times));
            let figure = all.figure(Figure::Percentile(95.0)).unwrap_or(Duration::ZERO);
            figure.as_secs_f64() * 1e3
        };
        let answered = race.attempts.accepted + race.attempts.rejected;
        Some(Sample {
            per_second: answered as f64 / (lasted_ms / 1e3),
            p95_ms: p95(&mut race.group_results.iter().map(|g| &g.latency)),
            wait_p95_ms: p95(&mut race.pools.iter().map(|p| &p.wait)),
            timeouts: race.pools.iter().map(|p| p.timeouts).sum(),
            lock_waits: race.rounds.iter().map(|r| r.lock_waits).sum(),
            deadlocks: race.rounds.iter().map(|r| r.deadlocks).sum(),
            causes: race.pools.iter().flat_map(|p| &p.causes).map(|c| c.cause).collect(),
            lasted_ms,
        })
    }
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

/// The smallest size whose throughput is within the spread of the best one's runs, or within 5% of it.
pub fn knee(points: &[Point], of: &str) -> Option<Knee> {
    let (smallest, largest) = (points.first()?, points.last()?);
    if points.len() < 2 {
        return None;
    }
    let best = points
        .iter()
        .max_by(|a, b| a.per_second.median.total_cmp(&b.per_second.median))?;
    let enough = best.per_second.min.min(best.per_second.median * (1.0 - TOLERANCE));
    let first = |figure: fn(&Spread) -> f64| {
        let found = points.iter().find(|p| figure(&p.per_second) >= enough);
        found.unwrap_or(best)
    };
    let knee = first(|s| s.median);
    let (from, to) = (first(|s| s.max).size, first(|s| s.min).size.max(knee.size));
    let rate = |point: &Point| {
        let Spread { median, min, max } = point.per_second;
        format!("{median:.0}/s ({min:.0} to {max:.0})")
    };
    let kind = match knee.size {
        size if size == smallest.size => KneeKind::WithinNoise,
        size if size == largest.size => KneeKind::StillRising,
        _ => KneeKind::Measured,
    };
    let may_be = match from < to {
        true => format!("; given the spread of the runs it may be {from} to {to}"),
        false => String::new(),
    };
    let text = match kind {
        KneeKind::Measured => format!(
            "the knee is at a {} of {}: {}, where the best of all, {}, gives {}{may_be}",
            noun(of),
            knee.size,
            rate(knee),
            best.size,
            rate(best)
        ),
        KneeKind::StillRising => format!(
            "throughput still rises at the largest {}, {}: {}; sweep further to find the knee",
            noun(of),
            knee.size,
            rate(knee)
        ),
        KneeKind::WithinNoise => format!(
            "no knee: the smallest {}, {}, gives {}, and the best of all, {}, gives {}; the differences are within noise",
            noun(of),
            smallest.size,
            rate(smallest),
            best.size,
            rate(best)
        ),
    };
    Some(Knee {
        size: knee.size,
        from,
        to,
        best: best.size,
        kind,
        text,
    })
}

fn noun(of: &str) -> &'static str {
    if of == "pool" { "pool" } else { "number of sessions" }
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

    fn at(size: u32, min: f64, median: f64, max: f64) -> Point {
        Point {
            per_second: Spread { median, min, max },
            ..point(size, &[])
        }
    }

    #[test]
    fn sizes_are_read_and_grow_by_a_factor() {
        let points = |text: &str| text.parse::<Sizes>().map(|s| s.points(8));
        assert_eq!(points("5..100"), Ok(vec![5, 8, 12, 18, 28, 42, 65, 100]));
        assert_eq!(points("1..4"), Ok(vec![1, 2, 3, 4]), "no size twice");
        assert_eq!(points("20,5, 10,5"), Ok(vec![5, 10, 20]));
        assert_eq!("8".parse::<Sizes>().unwrap().single(), Some(8));
        for wrong in ["", "0", "5..", "9..5", "5..5", "x", "5,,6", "1..99999"] {
            assert!(points(wrong).unwrap_err().contains("5..100"), "{wrong}");
        }
    }

    #[test]
    fn every_size_is_measured_before_any_is_measured_again() {
        assert_eq!(order(3, 3), [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn the_knee_is_the_smallest_that_is_as_good_as_the_best() {
        let curve = [
            at(2, 98.0, 100.0, 102.0),
            at(4, 190.0, 200.0, 205.0),
            at(8, 280.0, 292.0, 299.0),
            at(16, 290.0, 300.0, 310.0),
            at(32, 240.0, 250.0, 260.0),
        ];
        let found = knee(&curve, "pool").unwrap();
        assert_eq!((found.size, found.best, found.kind), (8, 16, KneeKind::Measured));
        assert_eq!((found.from, found.to), (8, 16), "its slowest run was not as good");
        assert!(found.text.contains("it may be 8 to 16"), "{}", found.text);
        let rising = knee(&curve[..2], "pool").unwrap();
        assert_eq!((rising.size, rising.kind), (4, KneeKind::StillRising));
        assert_eq!(knee(&curve[..1], "pool"), None);
    }

    #[test]
    fn differences_within_noise_are_no_knee() {
        let flat = [
            at(2, 90.0, 98.0, 120.0),
            at(4, 80.0, 100.0, 130.0),
            at(8, 85.0, 99.0, 110.0),
        ];
        let found = knee(&flat, "sessions").unwrap();
        assert_eq!((found.size, found.kind), (2, KneeKind::WithinNoise));
        assert!(found.text.contains("within noise"), "{}", found.text);
        assert!(doubts(&flat, &[])[0].contains("2, 4, 8"), "{:?}", doubts(&flat, &[]));
    }

    #[test]
    fn the_middle_of_an_even_number_of_runs_lies_between_two() {
        let of = |values: &[f64]| spread(values.to_vec()).median;
        assert_eq!(
            (of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0, 2.0, 3.0]), of(&[])),
            (2.0, 2.5, 0.0)
        );
    }
}
