//! The figure that a rule is judged by: how it came out, and how to say it.

use super::State;
use crate::outcome::{Outcome, Outcomes};
use crate::report::{KeyCounts, Race, RoundResult, Times};
use crate::scenario::{Event, Measure, Must, Of, Op, Rule};
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

/// A rule about a count, in a round.
pub(super) fn figure_count(rule: &Rule, round: &RoundResult, race: &Race) -> Figured {
    let (of, outcome) = match &rule.measure {
        Measure::Count { of, outcome } => (of, *outcome),
        Measure::Event(event) => return figure_event(rule, *event, round),
        _ => return no_data("no data: it is not counted"),
    };
    let (outcomes, keys): (Outcomes, &[KeyCounts]) = match of {
        Of::Attempts => (round.attempts, &round.keys),
        Of::Group(name) => match round.groups.iter().find(|(group, _)| group == name) {
            Some((_, outcomes)) => (*outcomes, &[]),
            None => return no_data("no data: no such group"),
        },
        Of::Step(name) => match round.steps.iter().find(|s| s.step == *name) {
            Some(counts) => (counts.outcomes, &counts.keys),
            None => return no_data("no data: no such step"),
        },
    };
    if outcomes.total() == 0 {
        return no_data("no data: no attempt came to it");
    }
    let compare = |outcomes: Outcomes, where_: &str| match rule.must {
        Must::Count { op, bound, .. } => compare_with_doubt(op, bound, outcome, outcomes, where_),
        Must::Share { op, bound, .. } => compare_share(op, bound, outcome, outcomes, where_),
        Must::PerSecond { op, bound } => compare_per_second(op, bound, outcomes.get(outcome), round),
        Must::Time { .. } => no_data("no data: it is no time"),
    };
    let per_key = matches!(
        rule.must,
        Must::Count { per_key: true, .. } | Must::Share { per_key: true, .. }
    );
    if !per_key {
        return compare(outcomes, "");
    }
    let figures = keys
        .iter()
        .map(|k| compare(k.outcomes, &for_key(&race.key_columns, &k.key)));
    worst_of_keys(figures.collect())
}

fn figure_event(rule: &Rule, event: Event, round: &RoundResult) -> Figured {
    let n = match event {
        Event::Deadlocks => round.deadlocks,
        Event::LockWaits => round.lock_waits,
        Event::PoolTimeouts => round.pool_timeouts,
        Event::Dropped => round.dropped,
        Event::Interrupted => round.interrupted,
        Event::Retries => round.retries,
        Event::SettledLost | Event::SettledGhosts => match &round.settled {
            Some(settled) if settled.problem.is_some() => {
                let why = settled.problem.as_deref().unwrap_or_default();
                return no_data(&format!("could not look all attempts up: {why}"));
            }
            Some(settled) if settled.asked > 0 => match event {
                Event::SettledLost => settled.lost,
                _ => settled.ghosts,
            },
            _ => return no_data("no data: no attempt was looked up"),
        },
    };
    if round.attempts.total() == 0 && n == 0 {
        return no_data("no data: no attempt was made");
    }
    match rule.must {
        Must::Count { op, bound, .. } => Figured {
            state: held(op.holds(n, bound)),
            badness: n.abs_diff(bound) as f64,
            text: n.to_string(),
        },
        Must::PerSecond { op, bound } => compare_per_second(op, bound, n, round),
        _ => no_data("no data: it is a count"),
    }
}

fn compare_share(op: Op, bound: f64, outcome: Outcome, outcomes: Outcomes, where_: &str) -> Figured {
    let (n, total) = (outcomes.get(outcome), outcomes.total());
    let share = n as f64 / total as f64;
    let doubt = match outcome {
        Outcome::Accepted => outcomes.in_doubt,
        _ => 0,
    };
    let most = (n + doubt) as f64 / total as f64;
    Figured {
        // one in doubt may have been accepted or not
        state: match (op.holds(share, bound), op.holds(most, bound)) {
            (true, true) => State::Held,
            (false, false) => State::Broken,
            _ => State::NoData,
        },
        badness: (share - bound).abs(),
        text: format!("{:.2}% ({n} of {total}){where_}", share * 100.0),
    }
}

fn compare_per_second(op: Op, bound: f64, n: u64, round: &RoundResult) -> Figured {
    if round.duration_ms <= 0.0 {
        return no_data("no data: it took no time");
    }
    let rate = n as f64 / (round.duration_ms / 1e3);
    Figured {
        state: held(op.holds(rate, bound)),
        badness: (rate - bound).abs(),
        text: format!("{rate:.1}/s"),
    }
}

fn held(holds: bool) -> State {
    if holds { State::Held } else { State::Broken }
}

fn no_data(text: &str) -> Figured {
    Figured {
        state: State::NoData,
        badness: 0.0,
        text: text.into(),
    }
}

/// The worst key, and how many of them are broken.
fn worst_of_keys(figures: Vec<Figured>) -> Figured {
    let of = figures.len();
    let broken = figures.iter().filter(|f| f.state == State::Broken).count();
    let worst = figures
        .into_iter()
        .max_by(|a, b| rank(a).cmp(&rank(b)).then(a.badness.total_cmp(&b.badness)));
    let Some(mut worst) = worst else {
        return no_data("no data: no key was tried");
    };
    if of > 1 {
        worst.text = match (worst.state, broken) {
            (State::Held, _) => format!("{of} of {of} keys"),
            (_, 0) => worst.text,
            _ => format!("{} (and {broken} of {of} keys broken)", worst.text),
        };
    }
    worst
}

fn rank(figured: &Figured) -> u8 {
    match figured.state {
        State::Broken => 2,
        State::NoData => 1,
        State::Held | State::Pending | State::Skipped => 0,
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

/// A rule about a time, over the whole run.
pub(super) fn figure_time(rule: &Rule, race: &Race) -> Figured {
    let Must::Time {
        figure,
        op,
        bound,
        per_key,
    } = rule.must
    else {
        return no_data("no data: it is no time");
    };
    let compare = |times: &Times, where_: &str| match times.figure(figure) {
        None => no_data("no data"),
        Some(value) => Figured {
            state: held(op.holds(value, bound)),
            badness: value.abs_diff(bound).as_secs_f64(),
            text: format!("{}{where_}", show_time(value)),
        },
    };
    if per_key {
        let Measure::Latency { of: Of::Step(name), .. } = &rule.measure else {
            return no_data("no data: it is not measured by key");
        };
        let steps = race.steps.iter().filter(|s| s.step == *name);
        let keys = steps.flat_map(|s| &s.latency_by_key);
        let figures = keys.map(|(key, times)| compare(times, &for_key(&race.key_columns, key)));
        return worst_of_keys(figures.collect());
    }
    compare(&times(&rule.measure, race), "")
}

fn times(measure: &Measure, race: &Race) -> Times {
    let mut all = Times::default();
    match measure {
        Measure::Latency { of, outcome } => {
            let steps = race.steps.iter().map(|s| (&s.step, &s.latency, &s.latency_by_outcome));
            let groups = race
                .group_results
                .iter()
                .map(|g| (&g.group, &g.latency, &g.latency_by_outcome));
            let found: Vec<_> = match of {
                Of::Attempts => groups.collect(),
                Of::Group(name) => groups.filter(|(n, ..)| *n == name).collect(),
                Of::Step(name) => steps.filter(|(n, ..)| *n == name).collect(),
            };
            for (_, latency, by_outcome) in found {
                match outcome {
                    None => all.merge(latency),
                    Some(outcome) => by_outcome.get(outcome.name()).into_iter().for_each(|t| all.merge(t)),
                }
            }
        }
        Measure::Skew => {
            let waves = race.rounds.iter().flat_map(|r| &r.waves);
            waves
                .filter_map(|w| w.skew_us)
                .for_each(|us| all.record(std::time::Duration::from_micros(us)));
        }
        Measure::PoolWait => race.pools.iter().for_each(|p| all.merge(&p.wait)),
        Measure::Count { .. } | Measure::Event(_) => {}
    }
    all
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
            text: rows(check.count),
        },
        Decision::Violated => Figured {
            state: State::Broken,
            badness: check.count as f64,
            text: rows(check.count),
        },
        Decision::Pending => Figured {
            state: State::Pending,
            badness: 0.0,
            text: format!("{} pending", rows(check.pending)),
        },
        Decision::Skipped => Figured {
            state: State::Skipped,
            badness: 0.0,
            text: format!("skipped: {}", check.reason.as_deref().unwrap_or("no reason given")),
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
