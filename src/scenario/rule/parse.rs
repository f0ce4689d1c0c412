//! Text -> [`Rule`].

use super::{Event, Figure, Measure, Must, Names, Of, Op, Rule, RuleError, Side};
use crate::outcome::Outcome;

impl Rule {
    /// Parses `measure = "must"`, given the scenario's names.
    ///
    /// # Errors
    /// [`RuleError`] with the side that is wrong and what was expected there.
    pub fn parse(measure: &str, must: &str, names: Names<'_>) -> Result<Rule, RuleError> {
        let text = format!("{measure} {}", must.trim());
        let measure = parse_measure(measure, names)?;
        let is_time = matches!(measure, Measure::Latency { .. } | Measure::PoolWait | Measure::Skew);
        let is_count = matches!(measure, Measure::Count { .. });
        // keys are counted over all groups, and by step
        let by_key = matches!(&measure, Measure::Count { of, .. } if !matches!(of, Of::Group(_)));
        let parsed = match is_time {
            true => parse_time(
                must,
                matches!(
                    measure,
                    Measure::Latency {
                        of: Of::Step(_),
                        outcome: None
                    }
                ),
            ),
            false => parse_count(must, by_key).or_else(|| parse_rate(must, is_count, by_key)),
        };
        let must = parsed.ok_or_else(|| RuleError {
            side: Side::Must,
            message: format!("`{must}` is no rule for {}", if is_time { "a time" } else { "a count" }),
            expected: match (&measure, is_time) {
                (Measure::Skew, _) => "like `max < 10ms`".into(),
                (_, true) => "like `p(95) < 2s`; also min, avg, med, max".into(),
                (Measure::Count { .. }, _) => "like `== 1 per key`, `<= 10`, `rate < 1%` or `>= 100/s`".into(),
                _ => "like `== 0` or `<= 2/s`".into(),
            },
            help: None,
        })?;
        Ok(Rule {
            measure,
            must,
            text,
            abort: None,
            line: None,
        })
    }
}

fn parse_measure(name: &str, names: Names<'_>) -> Result<Measure, RuleError> {
    if let Some((_, event)) = Event::ALL.iter().find(|(n, _)| *n == name) {
        return Ok(Measure::Event(*event));
    }
    match name {
        "pool.wait" => return Ok(Measure::PoolWait),
        "skew" => return Ok(Measure::Skew),
        "winners" => {
            return Ok(Measure::Count {
                of: Of::Attempts,
                outcome: Outcome::Accepted,
            });
        }
        _ => {}
    }
    let wrong = |message: String, expected: String| RuleError {
        side: Side::Measure,
        message,
        expected,
        help: crate::source::nearest(name, valid(names).iter().map(String::as_str)),
    };
    let Some((owner, what)) = name.split_once('.') else {
        let events = Event::ALL.map(|(n, _)| n).join("`, `");
        return Err(wrong(
            format!("unknown measure `{name}`"),
            format!(
                "expected `STEP.OUTCOME` or `STEP.latency` (or a group's name, or `attempts`), \
                 `winners`, `pool.wait`, `skew`, `{events}`"
            ),
        ));
    };
    let of = if owner == "attempts" {
        Of::Attempts
    } else if names.steps.contains(&owner) {
        Of::Step(owner.to_string())
    } else if names.groups.contains(&owner) {
        Of::Group(owner.to_string())
    } else {
        return Err(wrong(
            format!("no step is called `{owner}`"),
            format!("expected one of {}, or `attempts`", quoted_all(names)),
        ));
    };
    let (outcome, latency) = match what.split_once('.') {
        Some((outcome, "latency")) => (outcome, true),
        _ if what == "latency" => return Ok(Measure::Latency { of, outcome: None }),
        _ => (what, false),
    };
    match (Outcome::from_name(outcome), latency) {
        (Some(outcome), false) => Ok(Measure::Count { of, outcome }),
        (Some(outcome), true) => Ok(Measure::Latency {
            of,
            outcome: Some(outcome),
        }),
        (None, _) => Err(wrong(
            format!("unknown measure `{name}`"),
            format!(
                "expected `latency` or one of {}",
                crate::source::quoted(&Outcome::ALL.map(Outcome::name))
            ),
        )),
    }
}

fn quoted_all(names: Names<'_>) -> String {
    let mut all = names.steps.to_vec();
    all.extend(names.groups.iter().filter(|g| !names.steps.contains(g)));
    crate::source::quoted(&all)
}

/// Every measure there is, for a hint at the nearest.
fn valid(names: Names<'_>) -> Vec<String> {
    let mut valid: Vec<String> = Event::ALL.map(|(n, _)| n.to_string()).into();
    valid.extend(["pool.wait", "skew", "winners"].map(String::from));
    for owner in names.steps.iter().chain(names.groups).chain(&["attempts"]) {
        valid.extend(Outcome::ALL.map(|o| format!("{owner}.{}", o.name())));
        valid.push(format!("{owner}.latency"));
    }
    valid
}

fn parse_op(text: &str) -> Option<(Op, &str)> {
    let text = text.trim();
    Op::ALL
        .iter()
        .find_map(|(sign, op)| text.strip_prefix(sign).map(|rest| (*op, rest.trim())))
}

/// `... per key`, where that is possible.
fn split_per_key(text: &str, may_be_per_key: bool) -> Option<(&str, bool)> {
    match text.trim().strip_suffix("per key") {
        Some(rest) if may_be_per_key => Some((rest.trim(), true)),
        Some(_) => None,
        None => Some((text.trim(), false)),
    }
}

fn parse_count(text: &str, may_be_per_key: bool) -> Option<Must> {
    let (text, per_key) = split_per_key(text, may_be_per_key)?;
    let (op, number) = parse_op(text)?;
    Some(Must::Count {
        op,
        bound: number.parse().ok()?,
        per_key,
    })
}

/// `rate < 1%`: a share of all; `>= 100/s`: a count a second.
fn parse_rate(text: &str, has_share: bool, may_be_per_key: bool) -> Option<Must> {
    if let Some(share) = text.trim().strip_prefix("rate").filter(|_| has_share) {
        let (share, per_key) = split_per_key(share, may_be_per_key)?;
        let (op, number) = parse_op(share)?;
        let percent: f64 = number.strip_suffix('%')?.trim().parse().ok()?;
        let bound = (0.0..=100.0).contains(&percent).then_some(percent / 100.0)?;
        return Some(Must::Share { op, bound, per_key });
    }
    let (op, number) = parse_op(text)?;
    let bound: f64 = number.strip_suffix("/s")?.trim().parse().ok()?;
    (bound.is_finite() && bound >= 0.0).then_some(Must::PerSecond { op, bound })
}

fn parse_time(text: &str, may_be_per_key: bool) -> Option<Must> {
    let (text, per_key) = split_per_key(text, may_be_per_key)?;
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
        per_key,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(measure: &str, must: &str) -> Result<Rule, RuleError> {
        Rule::parse(
            measure,
            must,
            Names {
                groups: &["guest"],
                steps: &["hold", "confirm"],
            },
        )
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
                bound: Duration::from_secs(62),
                per_key: false
            }
        );
        assert_eq!(
            parse("attempts.error", "!= 3").unwrap().measure,
            Measure::Count {
                of: Of::Attempts,
                outcome: Outcome::Error
            }
        );
    }

    #[test]
    fn rates_groups_and_outcomes() {
        let must = |measure, must| parse(measure, must).unwrap().must;
        assert_eq!(
            must("hold.accepted", "rate >= 99.5% per key"),
            Must::Share {
                op: Op::AtLeast,
                bound: 0.995,
                per_key: true
            }
        );
        assert_eq!(
            must("attempts.accepted", ">= 100/s"),
            Must::PerSecond {
                op: Op::AtLeast,
                bound: 100.0
            }
        );
        assert_eq!(must("dropped", "<= 2/s"), must("retries", "<= 2/s"));
        assert_eq!(
            parse("guest.accepted.latency", "max < 1s").unwrap().measure,
            Measure::Latency {
                of: Of::Group("guest".into()),
                outcome: Some(Outcome::Accepted)
            }
        );
        assert!(matches!(
            must("hold.latency", "p(95) < 1s per key"),
            Must::Time { per_key: true, .. }
        ));
    }

    #[test]
    fn wrong_rules_say_which_side() {
        for (measure, must, side) in [
            ("dropped", "rate < 1%", Side::Must),
            ("hold.accepted", "rate < 1", Side::Must),
            ("hold.accepted", "rate < 101%", Side::Must),
            ("hold.accepted", ">= 5/s per key", Side::Must),
            ("guest.latency", "max < 1s per key", Side::Must),
            ("hold.acepted.latency", "max < 1s", Side::Measure),
            ("hold.acepted", "== 1", Side::Measure),
            ("hld.accepted", "== 1", Side::Measure),
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
