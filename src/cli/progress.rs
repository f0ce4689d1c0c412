//! What is going on, on stderr: on a terminal a line that the next one replaces, elsewhere a plain line every few seconds.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, output};
use crate::contend::Pulse;
use crate::outcome::Outcome;
use crate::report::Times;
use crate::scenario::Figure;
use crate::stop::Stop;
use crate::verdict::show_time;

/// Between plain lines; a shorter run prints none.
const LINE_PERIOD: Duration = Duration::from_secs(5);
/// What the line on a terminal looks back on.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// Of a terminal that doesn't tell.
const WIDTH: u16 = 80;
/// Of the spinner, and the space behind it.
const SPINNER_WIDTH: u16 = 2;

/// Tells on stderr how a run goes. Dropped, it leaves no line behind on a terminal.
pub(super) struct Progress {
    shown: Shown,
    stop: Stop,
    rounds: u32,
    recent: Recent,
    /// When the next plain line is.
    due: Option<Instant>,
}

enum Shown {
    Line(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    pub(super) fn new(output: &Output, stop: &Stop) -> Progress {
        let shown = match (output.quiet, is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines,
            (false, true) => Shown::Line(line()),
        };
        Progress {
            shown,
            stop: stop.clone(),
            rounds: 1,
            recent: Recent::default(),
            due: None,
        }
    }

    /// Another phase; plain lines are about rounds only.
    pub(super) fn show(&self, phase: &str) {
        if let Shown::Line(bar) = &self.shown {
            bar.set_message(phase.to_string());
        }
    }

    /// A round begins.
    pub(super) fn round(&mut self, round: u32, of: u32) {
        self.rounds = of;
        self.show(&format!("round {round} of {of}"));
    }

    /// How the round goes.
    pub(super) fn pulse(&mut self, pulse: &Pulse) {
        let now = Instant::now();
        match &self.shown {
            Shown::Nothing => {}
            Shown::Line(bar) => {
                self.recent.add(pulse, LOOK_BACK);
                let width = width().saturating_sub(SPINNER_WIDTH);
                bar.set_message(fitted(self.parts(pulse), width.into()));
            }
            Shown::Lines => {
                self.recent.add(pulse, LINE_PERIOD);
                let due = *self.due.get_or_insert(now + LINE_PERIOD - pulse.window);
                if now >= due {
                    output::note(&format!("progress: {}", joined(&self.parts(pulse))));
                    self.recent = Recent::default();
                    self.due = Some(due + LINE_PERIOD);
                }
            }
        }
    }

    fn parts(&self, pulse: &Pulse) -> Vec<Part> {
        let stopping = self.stop.is_requested().then(|| Part {
            rank: 0,
            text: "stopping".into(),
        });
        let parts = parts(pulse, self.rounds, &self.recent);
        stopping.into_iter().chain(parts).collect()
    }

    /// Makes room for the report.
    pub(super) fn clear(&self) {
        if let Shown::Line(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn is_terminal() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stderr().is_terminal() && !is_dumb
}

fn width() -> u16 {
    terminal_size::terminal_size_of(io::stderr()).map_or(WIDTH, |(width, _)| width.0)
}

fn line() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // the template is a constant, so it is never the default's turn
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style.tick_chars("|/-\\ "));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// What was measured a short while ago.
#[derive(Default)]
struct Recent {
    latest: VecDeque<(Times, Duration)>,
}

impl Recent {
    fn add(&mut self, pulse: &Pulse, look_back: Duration) {
        self.latest.push_back((pulse.latency.clone(), pulse.window));
        while self.latest.len() > 1 && self.window() > look_back {
            self.latest.pop_front();
        }
    }

    fn window(&self) -> Duration {
        self.latest.iter().map(|(_, window)| *window).sum()
    }

    fn times(&self) -> Times {
        let mut all = Times::default();
        self.latest.iter().for_each(|(times, _)| all.merge(times));
        all
    }
}

/// A part of a line.
struct Part {
    /// Of what there is no room for the one with the highest number goes first.
    rank: u8,
    text: String,
}

/// What a line says: where it is, attempts a second and their latency lately, counts so far, and who waits now.
fn parts(pulse: &Pulse, rounds: u32, recent: &Recent) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |rank, text| parts.push(Part { rank, text });
    add(
        6,
        match rounds {
            1 => format!("round {}", pulse.round),
            _ => format!("round {}/{rounds}", pulse.round),
        },
    );
    let elapsed = pulse.elapsed.as_secs_f64();
    add(
        0,
        match pulse.planned {
            Some(planned) => format!("{elapsed:.1} of {} s", planned.as_secs_f64()),
            None => format!("{elapsed:.1} s"),
        },
    );
    let (times, window) = (recent.times(), recent.window());
    if !window.is_zero() {
        add(1, format!("{:.1}/s", times.count() as f64 / window.as_secs_f64()));
    }
    let time = |figure| times.figure(figure).map(show_time);
    if let (Some(avg), Some(p99)) = (time(Figure::Avg), time(Figure::Percentile(99.0))) {
        add(4, format!("lat {avg}"));
        add(7, format!("p99 {p99}"));
    }
    let counts = counts(pulse);
    if !counts.is_empty() {
        add(9, counts);
    }
    add(3, format!("{} waiting", pulse.waiting));
    add(
        2,
        match pulse.deadlocks {
            1 => "1 deadlock".into(),
            n => format!("{n} deadlocks"),
        },
    );
    let mut pool = format!("pool {}/{}", pulse.pool_in_use, pulse.pool_size);
    if pulse.pool_waiting > 0 {
        pool.push_str(&format!(" +{}", pulse.pool_waiting));
    }
    add(5, pool);
    if pulse.dropped > 0 {
        add(8, format!("{} dropped", pulse.dropped));
    }
    parts
}

fn counts(pulse: &Pulse) -> String {
    let met = Outcome::ALL.into_iter().filter(|o| pulse.outcomes.get(*o) > 0);
    let met = met.map(|o| format!("{} {}", pulse.outcomes.get(o), o.name().replace('_', " ")));
    let of = pulse.attempts_planned.map(|planned| format!("of {planned}"));
    met.chain(of).collect::<Vec<_>>().join(" ")
}

fn joined(parts: &[Part]) -> String {
    let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
    texts.join(", ")
}

/// As many parts as there is room for.
fn fitted(mut parts: Vec<Part>, width: usize) -> String {
    loop {
        let text = joined(&parts);
        let least = parts.iter().map(|part| part.rank).max().filter(|rank| *rank > 0);
        match least {
            Some(least) if text.chars().count() > width => parts.retain(|part| part.rank < least),
            _ => return text.chars().take(width).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcomes;

    fn pulse() -> Pulse {
        let mut latency = Times::default();
        for _ in 0..150 {
            latency.record(Duration::from_micros(9_800));
        }
        Pulse {
            round: 2,
            elapsed: Duration::from_millis(5_040),
            planned: None,
            outcomes: Outcomes {
                accepted: 37,
                rejected: 400,
                in_doubt: 1,
                ..Outcomes::default()
            },
            attempts_planned: None,
            latency,
            window: Duration::from_millis(200),
            waiting: 14,
            deadlocks: 2,
            dropped: 0,
            pool_in_use: 20,
            pool_size: 20,
            pool_waiting: 6,
        }
    }

    fn text(pulse: &Pulse, rounds: u32) -> String {
        let mut recent = Recent::default();
        recent.add(pulse, LOOK_BACK);
        joined(&parts(pulse, rounds, &recent))
    }

    #[test]
    fn a_line_says_where_it_is_how_fast_and_what_came_of_it() {
        assert_eq!(
            text(&pulse(), 5),
            "round 2/5, 5.0 s, 750.0/s, lat 9.80 ms, p99 9.81 ms, 37 accepted 400 rejected 1 in doubt, 14 waiting, 2 deadlocks, pool 20/20 +6"
        );
    }

    #[test]
    fn plans_are_told_and_what_there_is_none_of_is_not() {
        let pulse = Pulse {
            planned: Some(Duration::from_secs(10)),
            outcomes: Outcomes::default(),
            attempts_planned: Some(40),
            latency: Times::default(),
            deadlocks: 1,
            dropped: 3,
            pool_waiting: 0,
            ..pulse()
        };
        assert_eq!(
            text(&pulse, 1),
            "round 2, 5.0 of 10 s, 0.0/s, of 40, 14 waiting, 1 deadlock, pool 20/20, 3 dropped"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters_most() {
        let mut recent = Recent::default();
        recent.add(&pulse(), LOOK_BACK);
        for (width, expected) in [
            (
                78,
                "round 2/5, 5.0 s, 750.0/s, lat 9.80 ms, 14 waiting, 2 deadlocks, pool 20/20 +6",
            ),
            (60, "5.0 s, 750.0/s, lat 9.80 ms, 14 waiting, 2 deadlocks"),
            (39, "5.0 s, 750.0/s, 14 waiting, 2 deadlocks"),
            (38, "5.0 s, 750.0/s, 2 deadlocks"),
            (8, "5.0 s"),
            (3, "5.0"),
            (0, ""),
        ] {
            let text = fitted(parts(&pulse(), 5, &recent), width);
            assert_eq!(text, expected[..expected.len().min(width)], "{width}");
        }
    }

    #[test]
    fn it_looks_back_for_a_while_only() {
        let mut recent = Recent::default();
        for _ in 0..20 {
            recent.add(&pulse(), LOOK_BACK);
        }
        assert_eq!(recent.window(), LOOK_BACK);
        assert_eq!(recent.times().count(), 750);
    }
}
