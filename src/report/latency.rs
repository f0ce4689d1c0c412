//! Distributions of times.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::scenario::Figure;

/// A distribution of times, kept in an HDR histogram of microseconds with three significant figures.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// None until the first one.
    histogram: Option<Histogram<u64>>,
}

impl Times {
    /// Counts one more.
    pub fn record(&mut self, time: Duration) {
        if self.histogram.is_none() {
            // three significant figures is a valid precision, so this is Some
            self.histogram = Histogram::new(3).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            // it grows as needed; an hour is more than any limit lets pass
            let micros = time.min(Duration::from_secs(3_600)).as_micros();
            let _ = histogram.record(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }

    /// Counts all of the other one.
    pub fn merge(&mut self, other: &Times) {
        match (&mut self.histogram, &other.histogram) {
            (_, None) => {}
            (None, Some(_)) => self.histogram.clone_from(&other.histogram),
            // both grow as needed, so this does not fail
            (Some(own), Some(other)) => drop(own.add(other)),
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// A figure of the distribution; none without samples.
    pub fn figure(&self, figure: Figure) -> Option<Duration> {
        let histogram = self.histogram.as_ref().filter(|h| !h.is_empty())?;
        let micros = match figure {
            Figure::Percentile(p) => histogram.value_at_percentile(p),
            Figure::Min => histogram.min(),
            Figure::Max => histogram.max(),
            Figure::Avg => histogram.mean().round() as u64,
        };
        Some(Duration::from_micros(micros))
    }
}

#[derive(Serialize)]
struct Figures {
    count: u64,
    min_ms: f64,
    avg_ms: f64,
    med_ms: f64,
    p90_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = |figure| self.figure(figure).map_or(0.0, |d| d.as_micros() as f64 / 1e3);
        let percentile = |p| ms(Figure::Percentile(p));
        (self.count() > 0)
            .then(|| Figures {
                count: self.count(),
                min_ms: ms(Figure::Min),
                avg_ms: ms(Figure::Avg),
                med_ms: percentile(50.0),
                p90_ms: percentile(90.0),
                p95_ms: percentile(95.0),
                p99_ms: percentile(99.0),
                max_ms: ms(Figure::Max),
            })
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_distribution_and_of_none() {
        let mut times = Times::default();
        assert_eq!(times.figure(Figure::Max), None);
        assert_eq!(serde_json::to_string(&times).unwrap(), "null");
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        let near = |figure, ms: u64| {
            let got = times.figure(figure).unwrap();
            got.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(1)
        };
        assert!(near(Figure::Percentile(95.0), 95) && near(Figure::Min, 1) && near(Figure::Max, 100));
    }
}
