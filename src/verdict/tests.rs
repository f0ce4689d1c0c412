//! What comes out of which measurements.

use super::*;
use crate::outcome::Outcomes;
use crate::report::{GroupFacts, KeyCounts, PoolResult, StepCounts, Times};
use crate::scenario::Names;
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
        groups: vec![("g".into(), all)],
        dropped: 0,
        interrupted: 0,
        retries: 0,
        settled: None,
        overlapping: all.total(),
        waves: Vec::new(),
        checks: Vec::new(),
        duration_ms: 1.0,
        cut_short: false,
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
            schedule: "per-session",
            attempts: Some(10),
            gate: "write",
            pool: "pool".into(),
            transaction: None,
        }],
        group_results: Vec::new(),
        gate_tables: Vec::new(),
        rounds_planned: rounds.len() as u32,
        key_columns: vec!["room".into()],
        duration_ms: 1,
        control,
        rounds,
        attempts,
        steps: Vec::new(),
        reasons: Vec::new(),
        pools: vec![pool()],
        settled: None,
        lock_waits: Vec::new(),
        deadlocks: Vec::new(),
        server_deadlocks: None,
        samples: 0,
        samples_ms: 0.0,
        cut_short: None,
        notes: Vec::new(),
    }
}

fn pool() -> PoolResult {
    PoolResult {
        name: "pool".into(),
        size: 10,
        sessions: 10,
        wait: Times::default(),
        timeouts: 0,
        nested_timeouts: 0,
        create_timeouts: 0,
        server_full: 0,
        connect_errors: 0,
        usage: Vec::new(),
        dry_ms: 0.0,
        causes: Vec::new(),
    }
}

const NAMES: Names<'static> = Names {
    groups: &["g"],
    steps: &["hold", "confirm"],
};

fn check(id: &str, decision: Decision, severity: Severity) -> CheckResult {
    CheckResult {
        id: id.into(),
        title: "t".into(),
        file: "f".into(),
        severity,
        decision,
        level: (decision == Decision::Violated).then_some(severity),
        count: u64::from(decision == Decision::Violated),
        duration_ms: 1.0,
        ..CheckResult::default()
    }
}

fn one_winner() -> Vec<Rule> {
    vec![Rule::parse("hold.accepted", "== 1 per key", NAMES).unwrap()]
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
        let rules = [Rule::parse("hold.accepted", must, NAMES).unwrap()];
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
        let rules = [Rule::parse(measure, must, NAMES).unwrap()];
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
fn flags_rank_warnings_and_doubts_beside_all_else() {
    use Decision::{CouldNotDecide, Held, Violated};
    use Judged::{Failed, Inconclusive, Passed, Warned};
    let ok = || check("a", Held, Severity::Error);
    let warn = || check("b", Violated, Severity::Warn);
    let doubt = || check("c", CouldNotDecide, Severity::Error);
    let broken = || check("d", Violated, Severity::Error);
    let as_told = [
        Undecided::Inconclusive,
        Undecided::Fails,
        Undecided::Warns,
        Undecided::Passes,
    ];
    for (checks, mild, strict) in [
        (vec![ok()], [Passed; 4], [Passed; 4]),
        (vec![ok(), warn()], [Warned; 4], [Failed; 4]),
        (
            vec![ok(), doubt()],
            [Inconclusive, Failed, Warned, Passed],
            [Inconclusive, Failed, Failed, Passed],
        ),
        (
            vec![warn(), doubt()],
            [Inconclusive, Failed, Warned, Warned],
            [Failed; 4],
        ),
        (vec![broken(), warn(), doubt()], [Failed; 4], [Failed; 4]),
    ] {
        let verdict = judge_checks(&checks);
        for (strict, all) in [(false, mild), (true, strict)] {
            for (undecided, judged) in as_told.into_iter().zip(all) {
                let terms = Terms { strict, undecided };
                assert_eq!(terms.judged(&verdict), judged, "{terms:?} of {:?}", verdict.reasons);
            }
        }
    }
}

#[test]
fn a_run_that_has_looked_at_nothing_has_not_passed_and_says_why() {
    let skipped = |id: &str, why: &str| CheckResult {
        reason: Some(why.into()),
        ..check(id, Decision::Skipped, Severity::Error)
    };
    let two = [skipped("a", "there is no relation x"), skipped("b", "left out")];
    let verdict = judge_checks(&two);
    assert_eq!(verdict.outcome, Judged::Inconclusive);
    let [why] = verdict.reasons.as_slice() else {
        panic!("{:?}", verdict.reasons)
    };
    assert!(
        why.contains("all 2 were skipped (the first one is a: there is no relation x)"),
        "{why}"
    );
    assert_eq!(judge_checks(&[]).outcome, Judged::Inconclusive);
    let one_held = [skipped("a", "left out"), check("b", Decision::Held, Severity::Error)];
    assert_eq!(judge_checks(&one_held).outcome, Judged::Passed);
}

#[test]
fn times_are_shown_with_three_figures() {
    let show = |us| show_time(std::time::Duration::from_micros(us));
    assert_eq!(
        [show(7), show(1_234), show(12_345), show(123_456), show(2_000_000)],
        ["7 µs", "1.23 ms", "12.3 ms", "123 ms", "2.00 s"]
    );
}

#[test]
fn of_a_round_that_was_cut_short_only_what_no_more_attempts_could_mend_is_told() {
    let verdict_of = |measure: &str, must: &str, winners: &[u64]| {
        let cut_short = RoundResult {
            cut_short: true,
            interrupted: 3,
            ..round(2, winners)
        };
        let rules = [Rule::parse(measure, must, NAMES).unwrap()];
        let race = Race {
            cut_short: Some("interrupted".into()),
            ..race(None, vec![round(1, &[1, 1]), cut_short])
        };
        judge(&rules, &race).outcome
    };
    for (measure, must, winners, expected) in [
        ("hold.accepted", "== 1 per key", [0, 1], Judged::Interrupted),
        ("hold.accepted", "== 1 per key", [1, 2], Judged::Failed),
        ("attempts.accepted", ">= 2", [0, 1], Judged::Interrupted),
        ("attempts.accepted", "< 3", [2, 1], Judged::Failed),
        ("interrupted", "== 0", [1, 1], Judged::Interrupted),
    ] {
        assert_eq!(
            verdict_of(measure, must, &winners),
            expected,
            "{measure} {must} {winners:?}"
        );
    }
}

#[test]
fn a_share_that_attempts_in_doubt_may_have_kept_is_not_broken() {
    for (in_doubt, expected) in [(0, State::Broken), (1, State::NoData), (4, State::NoData)] {
        let mut round = round(1, &[4]);
        round.attempts = Outcomes {
            in_doubt,
            ..outcomes(4, 5 - 4 + 4 - in_doubt)
        };
        let rules = [Rule::parse("attempts.accepted", "rate >= 50%", NAMES).unwrap()];
        assert_eq!(judge(&rules, &race(None, vec![round])).rules[0].state, expected);
    }
}

#[test]
fn a_control_of_fewer_attempts_shows_only_what_is_too_many() {
    // five attempts on a key in the control; time decides how many there are in the race
    let control_of = |rule: &str, winners: u64| {
        let (measure, must) = rule.split_once(' ').unwrap();
        let rules = [Rule::parse(measure, must, NAMES).unwrap()];
        let mut race = race(Some(round(0, &[winners])), vec![round(1, &[3])]);
        race.groups[0].attempts = None;
        judge(&rules, &race).rules[0].control
    };
    assert_eq!(
        control_of("hold.accepted == 3 per key", 1),
        Some(State::Held),
        "not yet three"
    );
    assert_eq!(control_of("hold.accepted == 3 per key", 4), Some(State::Broken));
    assert_eq!(control_of("hold.accepted >= 3 per key", 1), None);
    assert_eq!(control_of("hold.accepted == 3", 1), None);
    assert_eq!(control_of("hold.accepted < 4", 4), Some(State::Broken));
    assert_eq!(control_of("hold.accepted rate < 10%", 4), None);
}

#[test]
fn only_what_more_attempts_cannot_mend_is_hopeless() {
    let hopeless = |rule: &str| {
        let (measure, must) = rule.split_once(' ').unwrap();
        let rule = Rule::parse(measure, must, NAMES).unwrap();
        is_hopeless(&rule, &race(None, vec![round(1, &[3])]))
    };
    for (rule, is) in [
        ("hold.accepted == 3", false),
        ("hold.accepted == 4", false),
        ("hold.accepted == 2", true),
        ("hold.accepted < 3", true),
        ("hold.accepted >= 9", false),
        ("hold.accepted <= 2 per key", true),
        ("hold.accepted rate > 90%", true),
        ("hold.accepted rate > 10%", false),
        ("deadlocks == 0", false),
        ("hold.latency max < 1s", false),
    ] {
        assert_eq!(hopeless(rule), is, "{rule}");
    }
}
