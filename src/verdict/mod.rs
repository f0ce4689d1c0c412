//! Rules + measurements -> a verdict, with the figures it was judged by. Pure.

mod figure;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::report::{Race, RoundResult};
use crate::scenario::{Measure, Must, Rule};
use crate::verify::{CheckResult, Severity};
use figure::{Figured, figure_check, figure_count, figure_time, worst};

pub use figure::{name_key, show_time};

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
            Measure::PoolTimeouts => outcome == Outcome::Refused,
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
                broken_rounds: u32::from(figured.state == State::Broken),
                state: figured.state,
                measured: figured.text,
                control: None,
                control_measured: None,
                warning: check.severity == Severity::Warn,
            }
        })
        .collect();
    verdict(judgements, Vec::new(), false)
}

fn verdict(judgements: Vec<Judgement>, mut doubts: Vec<String>, interrupted: bool) -> Verdict {
    let in_race = |j: &&Judgement| j.state == State::Broken;
    let in_control = |j: &&Judgement| j.control == Some(State::Broken);
    let broken: Vec<&Judgement> = judgements.iter().filter(|j| in_race(j) || in_control(j)).collect();
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
        Must::Count { op, bound, per_key } => {
            let rounds: Vec<(u32, Figured)> = race
                .rounds
                .iter()
                .map(|round| (round.round, figure_count(rule, op, bound, per_key, round, race)))
                .collect();
            worst(rounds)
        }
        Must::Time { figure, op, bound } => {
            let figured = figure_time(rule, figure, op, bound, race);
            let broken = u32::from(figured.state == State::Broken);
            (figured, broken)
        }
    };
    let control = match (&race.control, rule.must) {
        (Some(control), Must::Count { op, bound, per_key }) => {
            let comparable =
                per_key || control.attempts.total() >= race.groups.iter().map(|g| u64::from(g.attempts)).sum();
            comparable.then(|| figure_count(rule, op, bound, per_key, control, race))
        }
        _ => None,
    };
    Judgement {
        rule: rule.text.clone(),
        state: figured.state,
        measured: figured.text,
        broken_rounds,
        control_measured: control.as_ref().map(|c| c.text.clone()),
        control: control.map(|c| c.state).filter(|s| *s != State::NoData),
        warning: false,
    }
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
                state: figured.state,
                measured: figured.text,
                broken_rounds,
                control_measured: control.as_ref().map(|c| c.text.clone()),
                control: control.map(|c| c.state).filter(|s| *s != State::NoData),
                warning: check.severity == Severity::Warn,
            }
        })
        .collect()
}

/// The name of a check among the rules.
pub fn check_rule(id: &str) -> String {
    format!("check {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcomes;
    use crate::report::{GroupFacts, KeyCounts, PoolResult, StepCounts, Times};
    use crate::verify::Decision;

    fn outcomes(accepted: u64, rejected: u64) -> Outcomes {
        Outcomes {
            accepted,
            rejected,
            ..Outcomes::default()
        }
    }

    /// A round in which the keys had so many winners each, of five attempts.
    fn round(number: u32, winners: &[u64]) -> RoundResult {
        let mut all = Outcomes::default();
        let mut keys = Vec::new();
        for (i, n) in winners.iter().enumerate() {
            all.merge(&outcomes(*n, 5 - n));
            keys.push(KeyCounts {
                key: vec![Some(format!("k{i}"))],
                outcomes: outcomes(*n, 5 - n),
                winners: Vec::new(),
            });
        }
        RoundResult {
            round: number,
            keys_found: winners.len() as u64,
            attempts: all,
            keys: keys.clone(),
            steps: vec![StepCounts {
                step: "hold".into(),
                outcomes: all,
                keys,
            }],
            deadlocks: 0,
            lock_waits: 0,
            pool_timeouts: 0,
            overlapping: all.total(),
            waves: Vec::new(),
            checks: Vec::new(),
            duration_ms: 1.0,
        }
    }

    fn race(control: Option<RoundResult>, rounds: Vec<RoundResult>) -> Race {
        let mut attempts = Outcomes::default();
        rounds.iter().for_each(|r| attempts.merge(&r.attempts));
        Race {
            scenario: "s".into(),
            title: "t".into(),
            file: "f".into(),
            system: None,
            bug: None,
            seed: 0,
            groups: vec![GroupFacts {
                name: "g".into(),
                sessions: 10,
                attempts: 10,
                gate: "write",
            }],
            gate_tables: Vec::new(),
            rounds_planned: rounds.len() as u32,
            key_columns: vec!["room".into()],
            duration_ms: 1,
            control,
            rounds,
            attempts,
            steps: Vec::new(),
            reasons: Vec::new(),
            pool: PoolResult {
                size: 10,
                sessions: 10,
                wait: Times::default(),
                timeouts: 0,
            },
            lock_waits: Vec::new(),
            deadlocks: Vec::new(),
            server_deadlocks: None,
            samples: 0,
            samples_ms: 0.0,
            cut_short: None,
            notes: Vec::new(),
        }
    }

    fn check(id: &str, decision: Decision, severity: Severity) -> CheckResult {
        CheckResult {
            id: id.into(),
            title: "t".into(),
            file: "f".into(),
            severity,
            decision,
            count: u64::from(decision == Decision::Violated),
            count_is_capped: false,
            findings: Vec::new(),
            reason: None,
            duration_ms: 1.0,
        }
    }

    fn one_winner() -> Vec<Rule> {
        vec![Rule::parse("hold.accepted", "== 1 per key", &["hold"]).unwrap()]
    }

    #[test]
    fn what_breaks_only_in_the_race_is_a_concurrency_bug() {
        let verdict = judge(
            &one_winner(),
            &race(Some(round(0, &[1, 1])), vec![round(1, &[1, 1]), round(2, &[1, 4])]),
        );
        assert_eq!(
            (verdict.outcome, verdict.cause),
            (Judged::Failed, Some(Cause::ConcurrencyBug))
        );
        assert_eq!(
            verdict.rules[0].measured,
            "4 for room=k1 (and 1 of 2 keys broken) in round 2"
        );
        assert_eq!(verdict.rules[0].broken_rounds, 1);
    }

    #[test]
    fn what_breaks_in_the_control_is_a_plain_bug_even_if_the_race_holds() {
        let verdict = judge(&one_winner(), &race(Some(round(0, &[2])), vec![round(1, &[2])]));
        assert_eq!(
            (verdict.outcome, verdict.cause),
            (Judged::Failed, Some(Cause::PlainBug))
        );
        let verdict = judge(&one_winner(), &race(Some(round(0, &[2])), vec![round(1, &[1])]));
        assert_eq!(
            (verdict.outcome, verdict.cause),
            (Judged::Failed, Some(Cause::PlainBug))
        );
        assert_eq!(verdict.rules[0].state, State::Held);
    }

    #[test]
    fn without_a_control_nobody_knows_the_cause() {
        let verdict = judge(&one_winner(), &race(None, vec![round(1, &[2])]));
        assert_eq!((verdict.outcome, verdict.cause), (Judged::Failed, None));
    }

    #[test]
    fn a_race_that_was_none_is_inconclusive() {
        let rules = one_winner();
        let mut apart = race(None, vec![round(1, &[1])]);
        apart.rounds[0].overlapping = 0;
        let mut no_keys = race(None, vec![round(1, &[1])]);
        no_keys.rounds[0].keys_found = 0;
        let mut cut = race(None, vec![round(1, &[1])]);
        cut.cut_short = Some("round 2 broke off".into());
        let mut refused = race(None, vec![round(1, &[1])]);
        refused.attempts.refused = 3;
        let mut in_doubt = race(None, vec![round(1, &[1])]);
        in_doubt.attempts.in_doubt = 1;
        for (race, why) in [
            (race(None, vec![]), "no round"),
            (apart, "no contention"),
            (no_keys, "no row in round 1"),
            (cut, "round 2 broke off"),
            (refused, "`refused`"),
            (in_doubt, "in doubt"),
        ] {
            let verdict = judge(&rules, &race);
            assert_eq!(verdict.outcome, Judged::Inconclusive, "{why}");
            assert!(
                verdict.reasons.iter().any(|r| r.contains(why)),
                "{why}: {:?}",
                verdict.reasons
            );
        }
    }

    #[test]
    fn attempts_in_doubt_break_no_rule_that_they_may_have_kept() {
        for (must, winners, in_doubt, state) in [
            ("== 1 per key", 0, 5, State::NoData),
            ("== 1 per key", 1, 1, State::NoData),
            ("== 1 per key", 2, 1, State::Broken),
            ("== 4", 0, 3, State::Broken),
            (">= 1", 1, 3, State::Held),
            ("!= 2", 1, 3, State::NoData),
            ("!= 2", 3, 3, State::Held),
            ("<= 2 per key", 0, 2, State::Held),
        ] {
            let mut round = round(1, &[winners]);
            round.attempts.in_doubt = in_doubt;
            round.steps[0].outcomes.in_doubt = in_doubt;
            round.steps[0].keys[0].outcomes.in_doubt = in_doubt;
            let rules = [Rule::parse("hold.accepted", must, &["hold"]).unwrap()];
            let verdict = judge(&rules, &race(None, vec![round]));
            assert_eq!(
                verdict.rules[0].state, state,
                "{winners} winners, {in_doubt} in doubt, {must}"
            );
        }
    }

    #[test]
    fn a_broken_rule_outweighs_doubts_and_an_interruption_does_not_hide_it() {
        let mut race = race(None, vec![round(1, &[3])]);
        race.cut_short = Some("interrupted".into());
        assert_eq!(judge(&one_winner(), &race).outcome, Judged::Failed);
        race.rounds = vec![round(1, &[1])];
        assert_eq!(judge(&one_winner(), &race).outcome, Judged::Interrupted);
    }

    #[test]
    fn a_rule_without_samples_is_no_data() {
        for (measure, must) in [
            ("confirm.accepted", "== 0"),
            ("hold.latency", "p(95) < 1s"),
            ("skew", "max < 1s"),
        ] {
            let rules = [Rule::parse(measure, must, &["hold", "confirm"]).unwrap()];
            let verdict = judge(&rules, &race(None, vec![round(1, &[1])]));
            assert_eq!(verdict.outcome, Judged::Inconclusive, "{measure}");
            assert_eq!(verdict.rules[0].state, State::NoData);
        }
    }

    #[test]
    fn checks_weigh_by_severity_and_doubt_lies_between() {
        use Decision::{CouldNotDecide, Held, Violated};
        let ok = || check("a", Held, Severity::Error);
        let warn = || check("b", Violated, Severity::Warn);
        for (checks, outcome) in [
            (vec![ok()], Judged::Passed),
            (vec![ok(), warn()], Judged::Warned),
            (
                vec![warn(), check("c", CouldNotDecide, Severity::Warn)],
                Judged::Inconclusive,
            ),
            (
                vec![
                    check("c", CouldNotDecide, Severity::Error),
                    check("d", Violated, Severity::Error),
                ],
                Judged::Failed,
            ),
        ] {
            assert_eq!(judge_checks(&checks).outcome, outcome);
        }
    }

    #[test]
    fn times_are_shown_with_three_figures() {
        let show = |us| show_time(std::time::Duration::from_micros(us));
        assert_eq!(
            [show(7), show(1_234), show(12_345), show(123_456), show(2_000_000)],
            ["7 µs", "1.23 ms", "12.3 ms", "123 ms", "2.00 s"]
        );
    }
}
