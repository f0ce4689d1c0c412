//! A [`Ramp`] as a function of time: its level, its integral, and the inverses of both. Pure.

use std::time::Duration;

use super::Ramp;

impl Ramp {
    /// The same figure all the time.
    pub fn level_for(figure: f64, duration: Duration) -> Ramp {
        Ramp {
            start: figure,
            stages: vec![super::Stage {
                duration,
                target: figure,
            }],
        }
    }

    /// Whether the figure never changes.
    pub fn is_level(&self) -> bool {
        self.stages.iter().all(|s| s.target == self.start)
    }

    /// How long all stages take.
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|s| s.duration).sum()
    }

    /// The largest figure it comes to.
    pub fn peak(&self) -> f64 {
        self.stages.iter().map(|s| s.target).fold(self.start, f64::max)
    }

    /// The stages as pieces of a line: from when (seconds), for how long, from and to which figure.
    fn pieces(&self) -> impl Iterator<Item = (f64, f64, f64, f64)> + '_ {
        let mut at = 0.0;
        let mut from = self.start;
        self.stages.iter().map(move |stage| {
            let piece = (at, stage.duration.as_secs_f64(), from, stage.target);
            at += piece.1;
            from = stage.target;
            piece
        })
    }

    /// The figure after a time; where a stage takes no time, that of its end.
    pub fn at(&self, elapsed: Duration) -> f64 {
        let t = elapsed.as_secs_f64();
        let mut last = self.start;
        for (at, length, from, to) in self.pieces() {
            if t < at + length {
                return from + (to - from) * (t - at) / length;
            }
            last = to;
        }
        last
    }

    /// The first moment, not before `elapsed`, at which the figure is at least `figure`; none when there is none before the end.
    pub fn reaches(&self, figure: f64, elapsed: Duration) -> Option<Duration> {
        let t = elapsed.as_secs_f64();
        for (at, length, from, to) in self.pieces() {
            let end = at + length;
            if t >= end {
                continue;
            }
            let now = from + (to - from) * (t - at).max(0.0) / length;
            let found = if now >= figure {
                t.max(at)
            } else if to >= figure {
                at + length * (figure - from) / (to - from)
            } else {
                continue;
            };
            // a moment at the very end is no moment of the schedule
            return (found < self.duration().as_secs_f64()).then(|| Duration::from_secs_f64(found));
        }
        None
    }

    /// The first moment, not before `elapsed`, at which the figure is less than `figure`; the end at the latest.
    pub fn falls_below(&self, figure: f64, elapsed: Duration) -> Duration {
        let t = elapsed.as_secs_f64();
        for (at, length, from, to) in self.pieces() {
            let end = at + length;
            if t >= end {
                continue;
            }
            let now = from + (to - from) * (t - at).max(0.0) / length;
            if now < figure {
                return Duration::from_secs_f64(t.max(at));
            }
            if to < figure {
                return Duration::from_secs_f64(at + length * (figure - from) / (to - from));
            }
        }
        self.duration()
    }

    /// The integral over all stages: under a rate, how many starts are planned.
    pub fn starts(&self) -> u64 {
        let area: f64 = self
            .pieces()
            .map(|(_, length, from, to)| length * (from + to) / 2.0)
            .sum();
        // one that falls on the very end is not made; the tolerance is for 0.1 + 0.2
        (area - 1e-9).ceil().max(0.0) as u64
    }

    /// When start `n` (from 0) is due: where the integral of the rate reaches `n`. None after the last one.
    pub fn start_time(&self, n: u64) -> Option<Duration> {
        let mut left = n as f64;
        if n >= self.starts() {
            return None;
        }
        for (at, length, from, to) in self.pieces() {
            let area = length * (from + to) / 2.0;
            if left >= area {
                left -= area;
                continue;
            }
            // from*x + slope*x²/2 = left, solved without cancellation
            let slope = (to - from) / length;
            let root = (from * from + 2.0 * slope * left).max(0.0).sqrt();
            let x = if left == 0.0 { 0.0 } else { 2.0 * left / (from + root) };
            return Some(Duration::from_secs_f64(at + x.min(length)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    fn ramp(start: f64, stages: &[(u64, f64)]) -> Ramp {
        let stage = |(seconds, target): &(u64, f64)| Stage {
            duration: Duration::from_secs(*seconds),
            target: *target,
        };
        Ramp {
            start,
            stages: stages.iter().map(stage).collect(),
        }
    }

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn the_level_changes_linearly_and_jumps_where_a_stage_takes_no_time() {
        let ramp = ramp(20.0, &[(10, 50.0), (0, 5.0), (10, 5.0)]);
        for (t, level) in [
            (0.0, 20.0),
            (5.0, 35.0),
            (9.9999, 49.9997),
            (10.0, 5.0),
            (19.0, 5.0),
            (99.0, 5.0),
        ] {
            assert!((ramp.at(secs(t)) - level).abs() < 0.001, "{t}");
        }
        assert_eq!(ramp.duration(), secs(20.0));
        assert_eq!(ramp.peak(), 50.0);
    }

    #[test]
    fn a_session_comes_when_the_level_reaches_it_and_goes_when_it_falls_below() {
        let ramp = ramp(0.0, &[(10, 10.0), (10, 0.0), (5, 5.0)]);
        assert_eq!(ramp.reaches(1.0, secs(0.0)), Some(secs(1.0)));
        assert_eq!(ramp.falls_below(1.0, secs(1.0)), secs(19.0));
        assert_eq!(ramp.reaches(1.0, secs(19.5)), Some(secs(21.0)));
        assert_eq!(ramp.falls_below(1.0, secs(21.0)), secs(25.0), "the end");
        assert_eq!(ramp.reaches(10.0, secs(10.1)), None);
        assert_eq!(ramp.reaches(5.0, secs(20.0)), None, "reached only at the end");
    }

    #[test]
    fn starts_are_evenly_spaced_under_a_level_rate() {
        let ramp = Ramp::level_for(10.0, secs(2.0));
        assert_eq!(ramp.starts(), 20);
        let times: Vec<_> = (0..=20).map(|n| ramp.start_time(n)).collect();
        assert_eq!(times[0], Some(Duration::ZERO));
        assert_eq!(times[19].map(|t| t.as_millis()), Some(1900));
        assert_eq!(times[20], None);
    }

    #[test]
    fn starts_follow_the_integral_of_a_changing_rate() {
        // 10 to 150 a second in 10 s: 800 starts, and the rate around each is that of its moment
        let ramp = ramp(10.0, &[(10, 150.0)]);
        assert_eq!(ramp.starts(), 800);
        let times: Vec<f64> = (0..800).map(|n| ramp.start_time(n).unwrap().as_secs_f64()).collect();
        assert!(times.is_sorted());
        for (n, t) in times.iter().enumerate() {
            let integral = 10.0 * t + 7.0 * t * t;
            assert!((integral - n as f64).abs() < 1e-4, "{n}");
        }
        let through_zero = self::ramp(0.0, &[(1, 10.0), (1, 0.0), (1, 0.0), (1, 10.0)]);
        assert_eq!(through_zero.starts(), 15);
        let times: Vec<f64> = (0..15)
            .map(|n| through_zero.start_time(n).unwrap().as_secs_f64())
            .collect();
        assert!(times.iter().all(|t| *t <= 2.0 || *t >= 3.0), "{times:?}");
    }
}
