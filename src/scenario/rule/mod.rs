//! The rules of `[expect]`: a measure, and what it must be.
//!
//! ```toml
//! "hold.accepted" = "== 1 per key"
//! "hold.latency"  = "p(95) < 2s"
//! deadlocks       = "== 0"
//! ```

mod parse;

use std::fmt;
use std::time::Duration;

use crate::outcome::Outcome;

/// A rule that a run is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What is measured.
    pub measure: Measure,
    /// What it must be.
    pub must: Must,
    /// As the user wrote it, `hold.accepted == 1 per key`.
    pub text: String,
    /// Whether breaking it ends the run.
    pub abort: Option<Abort>,
    /// Its line in the scenario; none for the rules of every run.
    pub line: Option<usize>,
}

/// A broken rule ends the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Not before a round has run for so long.
    pub grace: Duration,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Attempts or steps that ended so, in a round.
    Count {
        /// Of what.
        of: Of,
        /// The outcome counted.
        outcome: Outcome,
    },
    /// The time an attempt or a step took, over the whole run.
    Latency {
        /// Of what.
        of: Of,
        /// Only of those that ended so.
        outcome: Option<Outcome>,
    },
    /// Something that is counted in each round.
    Event(Event),
    /// The time an attempt waited for a connection, over the whole run.
    PoolWait,
    /// First to last start after the start gate, the worst wave of the run.
    Skew,
}

/// What a count or a latency is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Whole attempts of all groups.
    Attempts,
    /// Whole attempts of a group.
    Group(String),
    /// A step.
    Step(String),
}

/// Something that is counted in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Deadlocks.
    Deadlocks,
    /// Waits for a lock, those at the gate excepted.
    LockWaits,
    /// Attempts that got no connection in time.
    PoolTimeouts,
    /// Starts that found no free session, and attempts that were planned and never begun.
    Dropped,
    /// Attempts that were cancelled because their schedule was over.
    Interrupted,
    /// Tries after the first one.
    Retries,
    /// Attempts that were acknowledged and are not stored (`settle`).
    SettledLost,
    /// Attempts that failed and are stored all the same (`settle`).
    SettledGhosts,
}

impl Event {
    /// All of them, by name.
    pub const ALL: [(&'static str, Event); 8] = [
        ("deadlocks", Event::Deadlocks),
        ("lock_waits", Event::LockWaits),
        ("pool.timeouts", Event::PoolTimeouts),
        ("dropped", Event::Dropped),
        ("interrupted", Event::Interrupted),
        ("retries", Event::Retries),
        ("settled.lost", Event::SettledLost),
        ("settled.ghosts", Event::SettledGhosts),
    ];
}

/// What a measure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Must {
    /// A comparison of a count.
    Count {
        /// How to compare.
        op: Op,
        /// With what.
        bound: u64,
        /// Whether it must hold for each key that was attempted.
        per_key: bool,
    },
    /// A comparison of a count's share of all, 0 to 1.
    Share {
        /// How to compare.
        op: Op,
        /// With what.
        bound: f64,
        /// Whether it must hold for each key that was attempted.
        per_key: bool,
    },
    /// A comparison of a count a second.
    PerSecond {
        /// How to compare.
        op: Op,
        /// With what.
        bound: f64,
    },
    /// A comparison of a time.
    Time {
        /// Which figure of the distribution.
        figure: Figure,
        /// How to compare.
        op: Op,
        /// With what.
        bound: Duration,
        /// Whether it must hold for each key that was attempted.
        per_key: bool,
    },
}

/// The names that measures can begin with.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The groups.
    pub groups: &'a [&'a str],
    /// The steps.
    pub steps: &'a [&'a str],
}

/// A figure of a distribution of times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// The percentile, 0 to 100.
    Percentile(f64),
    /// The smallest.
    Min,
    /// The mean.
    Avg,
    /// The largest.
    Max,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Op {
    const ALL: [(&'static str, Op); 6] = [
        ("==", Op::Equal),
        ("!=", Op::NotEqual),
        ("<=", Op::AtMost),
        (">=", Op::AtLeast),
        ("<", Op::Less),
        (">", Op::More),
    ];

    /// Whether `left op right`.
    pub fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Op::Equal => left == right,
            Op::NotEqual => left != right,
            Op::Less => left < right,
            Op::AtMost => left <= right,
            Op::More => left > right,
            Op::AtLeast => left >= right,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Op::ALL.iter().find(|(_, op)| op == self).map_or("", |(t, _)| t);
        f.write_str(text)
    }
}

/// What is wrong with a rule, and whether it is the measure (left) or the comparison (right).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The wrong side.
    pub side: Side,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// The nearest valid name.
    pub help: Option<String>,
}

/// A side of `measure = "comparison"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The measure.
    Measure,
    /// The comparison.
    Must,
}

impl Rule {
    /// The rules every run has, unless it says otherwise of the same measure: no attempt ends in `error`, nobody in a
    /// deadlock, and what `settle` finds is what was acknowledged.
    pub fn of_every_run(settles: bool) -> Vec<Rule> {
        let errors = Measure::Count {
            of: Of::Attempts,
            outcome: Outcome::Error,
        };
        let mut rules = vec![
            (Measure::Event(Event::Deadlocks), "deadlocks == 0"),
            (errors, "attempts.error == 0"),
        ];
        if settles {
            rules.push((Measure::Event(Event::SettledLost), "settled.lost == 0"));
            rules.push((Measure::Event(Event::SettledGhosts), "settled.ghosts == 0"));
        }
        let rule = |(measure, text): (Measure, &str)| Rule {
            measure,
            must: Must::Count {
                op: Op::Equal,
                bound: 0,
                per_key: false,
            },
            text: text.into(),
            abort: None,
            line: None,
        };
        rules.into_iter().map(rule).collect()
    }
}
