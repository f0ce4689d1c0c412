//! The figure that a rule is judged by: how it came out, and how to say it.

use super::State;
use crate::outcome::{Outcome, Outcomes};
use crate::report::{KeyCounts, Race, RoundResult, Times};
use crate::scenario::{Figure, Measure, Op, Rule};
use crate::verify::{CheckResult, Decision};

/// One figure of a rule: how it came out, how bad it is, and how to say it.
pub(super) struct Figured {
    pub(super) state: State,
    /// Distance from the bound: the worst one is reported.
    pub(super) badness: f64,
    pub(super) text: String,
}

/// The round to report, and in how many the rule was broken.
pub(super) fn worst(rounds: Vec<(u32, Figured)>) -> (Figured, u32) {
    let of = rounds.len();
    let broken = rounds.iter().filter(|(_, f)| f.state == State::Broken).count() as u32;
    // of equals the last one is taken: the first round
    let worst = rounds
        .into_iter()
        .rev()
        .max_by(|(_, a), (_, b)| rank(a).cmp(&rank(b)).then(a.badness.total_cmp(&b.badness)));
    let Some((round, mut figured)) = worst else {
        let none = Figured {
            state: State::NoData,
            badness: 0.0,
            text: "no round was run".into(),
        };
        return (none, 0);
    };
    if figured.state == State::Broken && of > 1 {
        figured.text = format!("{} in round {round}", figured.text);
    }
    (figured, broken)
}

pub(super) fn figure_count(
    rule: &Rule,
    op: Op,
    bound: u64,
    per_key: bool,
    round: &RoundResult,
    race: &Race,
) -> Figured {
    let compare = |n: u64, text: String| Figured {
        state: if op.holds(n, bound) { State::Held } else { State::Broken },
        badness: n.abs_diff(bound) as f64,
        text,
    };
    let no_data = |text: &str| Figured {
        state: State::NoData,
        badness: 0.0,
        text: text.into(),
    };
    let (outcome, outcomes, keys): (_, Outcomes, &[KeyCounts]) = match &rule.measure {
        Measure::Count { step: None, outcome } => (*outcome, round.attempts, &round.keys),
        Measure::Count {
            step: Some(step),
            outcome,
        } => match round.steps.iter().find(|s| s.step == *step) {
            Some(counts) => (*outcome, counts.outcomes, &counts.keys),
            None => return no_data("no data: no such step"),
        },
        other => {
            let n = match other {
                Measure::Deadlocks => round.deadlocks,
                Measure::LockWaits => round.lock_waits,
                _ => round.pool_timeouts,
            };
            if round.attempts.total() == 0 {
                return no_data("no data: no attempt was made");
            }
            return compare(n, n.to_string());
        }
    };
    if outcomes.total() == 0 {
        return no_data("no data: no attempt came to it");
    }
    if !per_key {
        return compare_with_doubt(op, bound, outcome, outcomes, "");
    }
    let figures = keys
        .iter()
        .map(|k| compare_with_doubt(op, bound, outcome, k.outcomes, &for_key(&race.key_columns, &k.key)));
    let broken = figures.clone().filter(|f| f.state == State::Broken).count();
    let worst = figures.max_by(|a, b| rank(a).cmp(&rank(b)).then(a.badness.total_cmp(&b.badness)));
    match worst {
        None => no_data("no data: no key was tried"),
        Some(mut worst) => {
            if keys.len() > 1 {
                worst.text = match (worst.state, broken) {
                    (State::Held, _) => format!("{} of {} keys", keys.len(), keys.len()),
                    (_, 0) => worst.text,
                    _ => format!("{} (and {broken} of {} keys broken)", worst.text, keys.len()),
                };
            }
            worst
        }
    }
}

fn rank(figured: &Figured) -> u8 {
    match figured.state {
        State::Broken => 2,
        State::NoData => 1,
        State::Held => 0,
    }
}

/// An attempt in doubt may have been accepted or not, so the count is one of several.
fn compare_with_doubt(op: Op, bound: u64, outcome: Outcome, outcomes: Outcomes, where_: &str) -> Figured {
    let least = outcomes.get(outcome);
    let doubt = match outcome {
        Outcome::Accepted => outcomes.in_doubt,
        _ => 0,
    };
    let most = least + doubt;
    // between these an operator does not change its mind
    let possible = [least, bound.saturating_sub(1), bound, bound.saturating_add(1), most].map(|n| n.clamp(least, most));
    let state = match possible.iter().filter(|n| op.holds(**n, bound)).count() {
        0 => State::Broken,
        n if n == possible.len() => State::Held,
        _ => State::NoData,
    };
    let text = match doubt {
        0 => format!("{least}{where_}"),
        _ => format!("{least} to {most}{where_}: {doubt} in doubt"),
    };
    Figured {
        state,
        badness: least.abs_diff(bound) as f64,
        text,
    }
}

/// ` for room_type_id=1 date=2030-06-01`
fn for_key(columns: &[String], key: &[Option<String>]) -> String {
    if key.is_empty() {
        return String::new();
    }
    format!(" for {}", name_key(columns, key))
}

/// `room_type_id=1 date=2030-06-01`
pub fn name_key(columns: &[String], key: &[Option<String>]) -> String {
    let pair = |(column, value): (&String, &Option<String>)| format!("{column}={}", value.as_deref().unwrap_or("NULL"));
    columns.iter().zip(key).map(pair).collect::<Vec<_>>().join(" ")
}

pub(super) fn figure_time(rule: &Rule, figure: Figure, op: Op, bound: std::time::Duration, race: &Race) -> Figured {
    let mut skew = Times::default();
    let times = match &rule.measure {
        Measure::Latency { step } => race.steps.iter().find(|s| s.step == *step).map(|s| &s.latency),
        Measure::Skew => {
            let waves = race.rounds.iter().flat_map(|r| &r.waves);
            waves
                .filter_map(|w| w.skew_us)
                .for_each(|us| skew.record(std::time::Duration::from_micros(us)));
            Some(&skew)
        }
        _ => Some(&race.pool.wait),
    };
    match times.and_then(|t| t.figure(figure)) {
        None => Figured {
            state: State::NoData,
            badness: 0.0,
            text: "no data".into(),
        },
        Some(value) => Figured {
            state: if op.holds(value, bound) {
                State::Held
            } else {
                State::Broken
            },
            badness: value.abs_diff(bound).as_secs_f64(),
            text: show_time(value),
        },
    }
}

/// A time as people read it: three figures and a unit.
pub fn show_time(time: std::time::Duration) -> String {
    let us = time.as_micros() as f64;
    let (value, unit) = match us {
        0.0..1e3 => (us, "µs"),
        1e3..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let digits = match value {
        v if unit == "µs" || v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

pub(super) fn figure_check(check: &CheckResult) -> Figured {
    let rows = |n: u64| {
        format!(
            "{n}{} {}",
            if check.count_is_capped { "+" } else { "" },
            if n == 1 { "row" } else { "rows" }
        )
    };
    match check.decision {
        Decision::Held => Figured {
            state: State::Held,
            badness: 0.0,
            text: rows(0),
        },
        Decision::Violated => Figured {
            state: State::Broken,
            badness: check.count as f64,
            text: rows(check.count),
        },
        Decision::CouldNotDecide => Figured {
            state: State::NoData,
            badness: 0.0,
            text: format!(
                "could not decide: {}",
                check.reason.as_deref().unwrap_or("no reason given")
            ),
        },
    }
}
