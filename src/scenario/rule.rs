//! The rules of `[expect]`: a measure, and what it must be.
//!
//! ```toml
//! "hold.accepted" = "== 1 per key"
//! "hold.latency"  = "p(95) < 2s"
//! deadlocks       = "== 0"
//! ```

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
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Attempts or steps that ended so, in a round.
    Count {
        /// The step, or none for whole attempts.
        step: Option<String>,
        /// The outcome counted.
        outcome: Outcome,
    },
    /// The time a step took, over the whole run.
    Latency {
        /// The step.
        step: String,
    },
    /// Deadlocks in a round.
    Deadlocks,
    /// Waits for a lock in a round, those at the gate excepted.
    LockWaits,
    /// The time an attempt waited for a connection, over the whole run.
    PoolWait,
    /// Attempts that got no connection in time, in a round.
    PoolTimeouts,
    /// First to last start after the start gate, the worst wave of the run.
    Skew,
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
    /// A comparison of a time.
    Time {
        /// Which figure of the distribution.
        figure: Figure,
        /// How to compare.
        op: Op,
        /// With what.
        bound: Duration,
    },
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
    /// Parses `measure = "must"`, given the scenario's step names.
    ///
    /// # Errors
    /// [`RuleError`] with the side that is wrong and what was expected there.
    pub fn parse(measure: &str, must: &str, steps: &[&str]) -> Result<Rule, RuleError> {
        let text = format!("{measure} {}", must.trim());
        let measure = parse_measure(measure, steps)?;
        let is_time = matches!(measure, Measure::Latency { .. } | Measure::PoolWait | Measure::Skew);
        let must = if is_time {
            parse_time(must)
        } else {
            parse_count(must, matches!(measure, Measure::Count { .. }))
        }
        .ok_or_else(|| RuleError {
            side: Side::Must,
            message: format!("`{must}` is no rule for {}", if is_time { "a time" } else { "a count" }),
            expected: match (&measure, is_time) {
                (Measure::Skew, _) => "like `max < 10ms`".into(),
                (_, true) => "like `p(95) < 2s`; also min, avg, med, max".into(),
                (Measure::Count { .. }, _) => "like `== 1 per key` or `<= 10`".into(),
                _ => "like `== 0`".into(),
            },
            help: None,
        })?;
        Ok(Rule { measure, must, text })
    }

    /// The rules every run has, unless it says otherwise of the same measure: no attempt ends in `error`, and nobody in a
    /// deadlock.
    pub fn of_every_run() -> [Rule; 2] {
        let errors = Measure::Count {
            step: None,
            outcome: Outcome::Error,
        };
        [(Measure::Deadlocks, "deadlocks == 0"), (errors, "attempts.error == 0")].map(|(measure, text)| Rule {
            measure,
            must: Must::Count {
                op: Op::Equal,
                bound: 0,
                per_key: false,
            },
            text: text.into(),
        })
    }
}

fn parse_measure(name: &str, steps: &[&str]) -> Result<Measure, RuleError> {
    let wrong = |message: String, expected: String, valid: Vec<String>, given: &str| RuleError {
        side: Side::Measure,
        message,
        expected,
        help: crate::source::nearest(given, valid.iter().map(String::as_str)),
    };
    match name {
        "deadlocks" => return Ok(Measure::Deadlocks),
        "lock_waits" => return Ok(Measure::LockWaits),
        "pool.wait" => return Ok(Measure::PoolWait),
        "pool.timeouts" => return Ok(Measure::PoolTimeouts),
        "skew" => return Ok(Measure::Skew),
        _ => {}
    }
    let valid = || {
        let mut valid: Vec<String> = ["deadlocks", "lock_waits", "pool.wait", "pool.timeouts", "skew"]
            .map(String::from)
            .to_vec();
        for owner in steps.iter().chain(&["attempts"]) {
            valid.extend(Outcome::ALL.map(|o| format!("{owner}.{}", o.name())));
        }
        valid.extend(steps.iter().map(|s| format!("{s}.latency")));
        valid
    };
    let Some((owner, what)) = name.split_once('.') else {
        return Err(wrong(
            format!("unknown measure `{name}`"),
            "expected `STEP.OUTCOME`, `STEP.latency`, `attempts.OUTCOME`, `deadlocks`, `lock_waits`, \
             `pool.wait`, `pool.timeouts` or `skew`"
                .into(),
            valid(),
            name,
        ));
    };
    let step = match owner {
        "attempts" => None,
        _ if steps.contains(&owner) => Some(owner.to_string()),
        _ => {
            return Err(wrong(
                format!("no step is called `{owner}`"),
                format!("expected one of {}, or `attempts`", crate::source::quoted(steps)),
                valid(),
                name,
            ));
        }
    };
    match (step, Outcome::from_name(what)) {
        (step, Some(outcome)) => Ok(Measure::Count { step, outcome }),
        (Some(step), None) if what == "latency" => Ok(Measure::Latency { step }),
        _ => Err(wrong(
            format!("unknown measure `{name}`"),
            format!(
                "expected `latency` or one of {}",
                crate::source::quoted(&Outcome::ALL.map(Outcome::name))
            ),
            valid(),
            name,
        )),
    }
}

fn parse_op(text: &str) -> Option<(Op, &str)> {
    let text = text.trim();
    Op::ALL
        .iter()
        .find_map(|(sign, op)| text.strip_prefix(sign).map(|rest| (*op, rest.trim())))
}

fn parse_count(text: &str, may_be_per_key: bool) -> Option<Must> {
    let (op, rest) = parse_op(text)?;
    let (number, per_key) = match rest.strip_suffix("per key") {
        Some(number) if may_be_per_key => (number.trim(), true),
        Some(_) => return None,
        None => (rest, false),
    };
    Some(Must::Count {
        op,
        bound: number.parse().ok()?,
        per_key,
    })
}

fn parse_time(text: &str) -> Option<Must> {
    let text = text.trim();
    let at = text.find(['<', '>', '=', '!'])?;
    let figure = match text[..at].trim() {
        "min" => Figure::Min,
        "avg" => Figure::Avg,
        "max" => Figure::Max,
        "med" => Figure::Percentile(50.0),
        other => {
            let number = other.strip_prefix("p(")?.strip_suffix(')')?;
            let p: f64 = number.trim().parse().ok()?;
            (0.0..=100.0).contains(&p).then_some(Figure::Percentile(p))?
        }
    };
    let (op, rest) = parse_op(&text[at..])?;
    Some(Must::Time {
        figure,
        op,
        bound: humantime::parse_duration(rest).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(measure: &str, must: &str) -> Result<Rule, RuleError> {
        Rule::parse(measure, must, &["hold", "confirm"])
    }

    #[test]
    fn counts_and_times() {
        let rule = parse("hold.accepted", "== 1 per key").unwrap();
        assert_eq!(
            rule.must,
            Must::Count {
                op: Op::Equal,
                bound: 1,
                per_key: true
            }
        );
        assert_eq!(rule.text, "hold.accepted == 1 per key");
        assert_eq!(
            parse("confirm.latency", "p(99.9)<=1m 2s").unwrap().must,
            Must::Time {
                figure: Figure::Percentile(99.9),
                op: Op::AtMost,
                bound: Duration::from_secs(62)
            }
        );
        assert_eq!(
            parse("attempts.error", "!= 3").unwrap().measure,
            Measure::Count {
                step: None,
                outcome: Outcome::Error
            }
        );
    }

    #[test]
    fn wrong_rules_say_which_side() {
        for (measure, must, side) in [
            ("hold.acepted", "== 1", Side::Measure),
            ("hld.accepted", "== 1", Side::Measure),
            ("attempts.latency", "p(95) < 1s", Side::Measure),
            ("deadlock", "== 0", Side::Measure),
            ("deadlocks", "= 0", Side::Must),
            ("deadlocks", "== 0 per key", Side::Must),
            ("hold.accepted", "== one", Side::Must),
            ("hold.accepted", "== -1", Side::Must),
            ("hold.accepted", "p(95) < 1s", Side::Must),
            ("hold.latency", "< 2s", Side::Must),
            ("hold.latency", "p(101) < 2s", Side::Must),
            ("hold.latency", "p(95) < 2", Side::Must),
            ("hold.latency", "", Side::Must),
        ] {
            assert_eq!(parse(measure, must).unwrap_err().side, side, "{measure} {must}");
        }
        assert_eq!(
            parse("hold.acepted", "== 1").unwrap_err().help.as_deref(),
            Some("did you mean `hold.accepted`?")
        );
    }
}
