//! Rules + measurements -> a verdict, with the figures it was judged by. Pure.

mod figure;
mod terms;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::report::{Race, RoundResult};
use crate::scenario::{Event, Measure, Must, Op, Rule};
use crate::verify::{CheckResult, Decision, Severity};
use figure::{Figured, figure_check, figure_count, figure_time, worst};

pub use figure::{name_key, show_time};
pub use terms::{Terms, Undecided};

/// What a run comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Judged,
    /// Whether what broke needs a race; none when nothing broke, or there was no control to tell.
    pub cause: Option<Cause>,
    /// Why, most telling first.
    pub reasons: Vec<String>,
    /// Every rule and check, with the figure it was judged by.
    pub rules: Vec<Judgement>,
}

/// A verdict in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// All held.
    Passed,
    /// Only checks of severity `warn` found something.
    Warned,
    /// A rule or a check was broken.
    Failed,
    /// Nothing was broken, but not all could be decided.
    Inconclusive,
    /// Stopped by the user, with nothing broken so far.
    Interrupted,
}

/// What kind of bug it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It breaks one attempt at a time, too.
    PlainBug,
    /// It breaks only in the race.
    ConcurrencyBug,
    /// Some of it breaks one attempt at a time, some only in the race.
    Both,
}

/// A rule or a check, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// `hold.accepted == 1 per key`, `check hotel.orphan_holds`.
    pub rule: String,
    /// Its line in the scenario; none for checks, and for the rules of every run.
    pub line: Option<usize>,
    /// How it came out over all rounds.
    pub state: State,
    /// The worst figure, and where it was met.
    pub measured: String,
    /// Rounds in which it was broken.
    pub broken_rounds: u32,
    /// How it came out in the control; none when it isn't judged there.
    pub control: Option<State>,
    /// The control's figure.
    pub control_measured: Option<String>,
    /// Whether breaking it is only worth a look.
    pub warning: bool,
}

impl Judgement {
    /// Whether it was broken in a round, or in the control.
    pub(crate) fn is_broken(&self) -> bool {
        self.state == State::Broken || self.control == Some(State::Broken)
    }
}

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It held.
    Held,
    /// It was broken.
    Broken,
    /// There was nothing to judge it by, or it could not be decided.
    NoData,
    /// What would break it is too young to tell.
    Pending,
    /// It was not to be judged here.
    Skipped,
}

/// Judges a race.
pub fn judge(rules: &[Rule], race: &Race) -> Verdict {
    let mut judgements: Vec<Judgement> = rules.iter().map(|rule| judge_rule(rule, race)).collect();
    judgements.extend(judge_checks_of(race));
    let contention: u64 = race.rounds.iter().map(|r| r.overlapping).sum();
    let in_doubt = race.attempts.in_doubt;

    let mut doubts = Vec::new();
    if let Some(why) = race.cut_short.as_ref().filter(|why| *why != "interrupted") {
        doubts.push(why.clone());
    } else if race.attempts.total() == 0 {
        doubts.push("no data: no attempt was made".into());
    } else if let Some(round) = race
        .rounds
        .iter()
        .find(|r| r.keys_found == 0 && !race.key_columns.is_empty())
    {
        doubts.push(format!(
            "no data: the keys query returned no row in round {}",
            round.round
        ));
    } else if contention == 0 {
        doubts.push(
            "no contention: no two attempts were in flight on the same key at the same time, so nothing was raced"
                .into(),
        );
    }
    for (outcome, n) in unanswered(rules, race) {
        doubts.push(format!(
            "{n} {} ended in `{}`, and no rule says how many may",
            if n == 1 { "attempt" } else { "attempts" },
            outcome.name()
        ));
    }
    if in_doubt > 0 {
        doubts.push(format!(
            "{in_doubt} {} in doubt: the connection was lost before the answer came",
            if in_doubt == 1 { "attempt is" } else { "attempts are" }
        ));
    }
    let interrupted = race.cut_short.as_deref() == Some("interrupted");
    verdict(judgements, doubts, interrupted)
}

/// Attempts that did not come to an answer, and that no rule speaks of.
fn unanswered(rules: &[Rule], race: &Race) -> Vec<(Outcome, u64)> {
    let spoken_of = |outcome| {
        rules.iter().any(|rule| match &rule.measure {
            Measure::Count { outcome: o, .. } => *o == outcome,
            Measure::Event(Event::PoolTimeouts) => outcome == Outcome::Refused,
            _ => false,
        })
    };
    [Outcome::Timeout, Outcome::Refused]
        .into_iter()
        .map(|outcome| (outcome, race.attempts.get(outcome)))
        .filter(|(outcome, n)| *n > 0 && !spoken_of(*outcome))
        .collect()
}

/// Judges a run of checks.
pub fn judge_checks(checks: &[CheckResult]) -> Verdict {
    let judgements = checks
        .iter()
        .map(|check| {
            let figured = figure_check(check);
            Judgement {
                rule: check_rule(&check.id),
                line: None,
                broken_rounds: u32::from(figured.state == State::Broken),
                state: figured.state,
                measured: figured.text,
                control: None,
                control_measured: None,
                warning: check.level.unwrap_or(check.severity) == Severity::Warn,
            }
        })
        .collect();
    let mut doubts = Vec::new();
    doubts.extend(nothing_looked_at(checks));
    verdict(judgements, doubts, false)
}

/// Why a run of which every check was skipped has not passed, and what to do about it.
fn nothing_looked_at(checks: &[CheckResult]) -> Option<String> {
    if checks.iter().any(|check| check.decision != Decision::Skipped) {
        return None;
    }
    let none = "no data: no check was run";
    let Some(first) = checks.first() else {
        return Some(none.into());
    };
    let why = format!("{}: {}", first.id, first.reason.as_deref().unwrap_or("no reason given"));
    let all = match checks.len() {
        1 => format!("the only one was skipped ({why})"),
        n => format!("all {n} were skipped (the first one is {why})"),
    };
    let remedy = "run them on a database that they are for, or correct their `requires`, `run_on`, map or suite.toml";
    Some(format!("{none}, {all}; {remedy}"))
}

fn verdict(judgements: Vec<Judgement>, mut doubts: Vec<String>, interrupted: bool) -> Verdict {
    let in_race = |j: &&Judgement| j.state == State::Broken;
    let in_control = |j: &&Judgement| j.control == Some(State::Broken);
    let broken: Vec<&Judgement> = judgements.iter().filter(|j| j.is_broken()).collect();
    let serious = || broken.iter().copied().filter(|j| !j.warning);
    for rule in judgements.iter().filter(|j| j.state == State::NoData) {
        doubts.push(format!("{}: {}", rule.rule, rule.measured));
    }
    let plain = serious().any(|j| in_control(&j));
    let raced = serious().any(|j| in_race(&j) && j.control == Some(State::Held));
    let cause = match (plain, raced) {
        (true, true) => Some(Cause::Both),
        (true, false) => Some(Cause::PlainBug),
        (false, true) => Some(Cause::ConcurrencyBug),
        (false, false) => None,
    };
    let outcome = if serious().next().is_some() {
        Judged::Failed
    } else if interrupted {
        Judged::Interrupted
    } else if !doubts.is_empty() {
        Judged::Inconclusive
    } else if !broken.is_empty() {
        Judged::Warned
    } else {
        Judged::Passed
    };
    let mut reasons: Vec<String> = broken
        .iter()
        .map(|j| match j.state {
            State::Broken => format!("{}: {}", j.rule, j.measured),
            _ => format!(
                "{}: {} in the serial control",
                j.rule,
                j.control_measured.as_deref().unwrap_or_default()
            ),
        })
        .collect();
    reasons.extend(doubts);
    Verdict {
        outcome,
        cause,
        reasons,
        rules: judgements,
    }
}

fn judge_rule(rule: &Rule, race: &Race) -> Judgement {
    let (figured, broken_rounds) = match rule.must {
        Must::Time { .. } => {
            let figured = figure_time(rule, race);
            let broken = u32::from(figured.state == State::Broken);
            (figured, broken)
        }
        _ => {
            let rounds = race
                .rounds
                .iter()
                .map(|round| (round.round, judge_count(rule, round, race)));
            worst(rounds.collect())
        }
    };
    let control = race
        .control
        .as_ref()
        .and_then(|control| figure_control(rule, control, race));
    Judgement {
        rule: rule.text.clone(),
        line: rule.line,
        state: figured.state,
        measured: figured.text,
        broken_rounds,
        control_measured: control.as_ref().map(|c| c.text.clone()),
        control: control.map(|c| c.state).filter(|s| *s != State::NoData),
        warning: false,
    }
}

/// A rule in a round; where that was cut short, the attempts that were not made may have mended it.
fn judge_count(rule: &Rule, round: &RoundResult, race: &Race) -> Figured {
    let figured = figure_count(rule, round, race);
    if !round.cut_short || figured.state != State::Broken {
        return figured;
    }
    let stays_broken = match (&rule.measure, rule.must) {
        // those that the end itself has interrupted
        (Measure::Event(Event::Interrupted), _) => false,
        (_, Must::Count { .. }) => {
            not_too_large(rule).is_some_and(|rule| figure_count(&rule, round, race).state == State::Broken)
        }
        _ => true,
    };
    match stays_broken {
        true => figured,
        false => Figured {
            state: State::NoData,
            text: format!("{} when the round was cut short", figured.text),
            ..figured
        },
    }
}

/// A count in the control, where it can be compared with that of a round.
fn figure_control(rule: &Rule, control: &RoundResult, race: &Race) -> Option<Figured> {
    let Must::Count { per_key, .. } = rule.must else {
        return None;
    };
    let planned: Option<u64> = race.groups.iter().map(|g| g.attempts).sum();
    if planned.is_some_and(|planned| control.attempts.total() >= planned) {
        return Some(judge_count(rule, control, race));
    }
    // fewer attempts have smaller counts: one that is too large tells all the same
    let figured = figure_count(&not_too_large(rule)?, control, race);
    (per_key || figured.state == State::Broken).then_some(figured)
}

/// What is left of a rule about a count when more may be counted later; none when nothing is.
fn not_too_large(rule: &Rule) -> Option<Rule> {
    let Must::Count { op, bound, per_key } = rule.must else {
        return None;
    };
    let op = match op {
        Op::Equal | Op::AtMost => Op::AtMost,
        Op::Less => Op::Less,
        Op::NotEqual | Op::More | Op::AtLeast => return None,
    };
    Some(Rule {
        must: Must::Count { op, bound, per_key },
        ..rule.clone()
    })
}

/// Whether a rule is broken so that the rest of the run can't mend it. Of a partial count only that it is too large is known.
pub fn is_hopeless(rule: &Rule, race: &Race) -> bool {
    let judged = match rule.must {
        Must::Count { .. } => not_too_large(rule),
        _ => Some(rule.clone()),
    };
    judged.is_some_and(|rule| judge_rule(&rule, race).state == State::Broken)
}

fn judge_checks_of(race: &Race) -> Vec<Judgement> {
    let reference = race.rounds.iter().chain(&race.control).max_by_key(|r| r.checks.len());
    let Some(reference) = reference else { return Vec::new() };
    let of = |round: &RoundResult, id: &str| round.checks.iter().find(|c| c.id == id).map(figure_check);
    reference
        .checks
        .iter()
        .map(|check| {
            let rounds: Vec<(u32, Figured)> = race
                .rounds
                .iter()
                .map(|r| {
                    let missing = || Figured {
                        state: State::NoData,
                        badness: 0.0,
                        text: "it was not run".into(),
                    };
                    (r.round, of(r, &check.id).unwrap_or_else(missing))
                })
                .collect();
            let (figured, broken_rounds) = worst(rounds);
            let control = race.control.as_ref().and_then(|c| of(c, &check.id));
            Judgement {
                rule: check_rule(&check.id),
                line: None,
                state: figured.state,
                measured: figured.text,
                broken_rounds,
                control_measured: control.as_ref().map(|c| c.text.clone()),
                control: control.map(|c| c.state).filter(|s| *s != State::NoData),
                warning: check.level.unwrap_or(check.severity) == Severity::Warn,
            }
        })
        .collect()
}

/// The name of a check among the rules.
pub fn check_rule(id: &str) -> String {
    format!("check {id}")
}

#[cfg(test)]
mod tests;
