//! The smallest size that is as good as the best: measured, not fitted.
//!
//! The universal scalability law is the usual curve for this, but it fits a convoy behind one lock badly: with a hot row on two
//! cores its peak came out at 4.9 clients and lay at 2. Such a convoy is what people sweep for.

use serde::Serialize;

use super::{Point, Spread};

/// What is within this part of the best is as good as the best.
const TOLERANCE: f64 = 0.05;

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
    /// The smallest size is as good as the best, and some larger ones are worse: it may lie before them all.
    Falling,
    /// All sizes are as good as the best: the differences are within noise.
    WithinNoise,
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
        format!("{}/s ({} to {})", show_rate(median), show_rate(min), show_rate(max))
    };
    let kind = match knee.size {
        _ if points.iter().all(|p| p.per_second.median >= enough) => KneeKind::WithinNoise,
        size if size == smallest.size => KneeKind::Falling,
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
        KneeKind::Falling => format!(
            "the smallest {}, {}, is as good as any: {}, and larger ones are worse",
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

/// Attempts a second: three figures at least.
pub fn show_rate(rate: f64) -> String {
    if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn noun(of: &str) -> &'static str {
    if of == "pool" { "pool" } else { "number of sessions" }
}

#[cfg(test)]
mod tests {
    use super::super::{doubts, point};
    use super::*;

    fn at(size: u32, min: f64, median: f64, max: f64) -> Point {
        Point {
            per_second: Spread { median, min, max },
            ..point(size, &[])
        }
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
        let falling = knee(&curve[3..], "pool").unwrap();
        assert_eq!((falling.size, falling.kind), (16, KneeKind::Falling));
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
}
