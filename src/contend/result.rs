//! Run -> [`Race`]: what was measured, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::draw::TextRow;
use super::ending::Ending;
use super::session::Attempt;
use super::{Round, Run};
use crate::outcome::{Outcome, Outcomes};
use crate::report::{
    BugFacts, GroupFacts, KeyCounts, PoolResult, Race, Reason, RoundResult, StepCounts, StepResult, Times, WaveResult,
};
use crate::scenario::Plan;
use crate::watch::{Deadlock, Flight, LockWaits, overlapping};

pub(crate) fn summarise(plan: &Plan, run: Run, took: Duration) -> Race {
    let attempts = || run.rounds.iter().flat_map(|r| &r.attempts);
    let rounds: Vec<RoundResult> = run.rounds.iter().map(|r| round_result(plan, r)).collect();
    let mut totals = Outcomes::default();
    rounds.iter().for_each(|r| totals.merge(&r.attempts));
    let mut notes = run.notes;
    if rounds.iter().flat_map(|r| &r.waves).any(|w| w.deadline) {
        notes.push("a gate was opened by its deadline, before all sessions had come to it".into());
    }
    Race {
        scenario: plan.name.clone(),
        title: plan.title.clone(),
        file: plan.source.name.to_string(),
        system: plan.system.as_ref().map(|s| s.name.clone()),
        bug: plan.bug.as_ref().map(|bug| BugFacts {
            name: bug.name.clone(),
            title: bug.header.title.clone(),
            replaces: bug.header.replaces.clone(),
            kind: bug.header.kind,
        }),
        seed: plan.seed,
        groups: plan
            .groups
            .iter()
            .map(|g| GroupFacts {
                name: g.name.clone(),
                sessions: g.sessions,
                attempts: g.schedule.attempts(g.sessions),
                gate: g.gate.name(),
            })
            .collect(),
        gate_tables: run.gate_tables,
        rounds_planned: plan.rounds,
        key_columns: run.key_columns,
        duration_ms: took.as_millis() as u64,
        control: run.control.as_ref().map(|r| round_result(plan, r)),
        attempts: totals,
        steps: steps(plan, attempts()),
        reasons: reasons(plan, attempts()),
        pool: pool(plan, attempts()),
        lock_waits: LockWaits::merge(run.rounds.iter().flat_map(|r| &r.lock_waits)),
        deadlocks: Deadlock::distinct(run.rounds.iter().flat_map(|r| r.deadlocks.iter().cloned())),
        server_deadlocks: run.server_deadlocks,
        samples: run.sampler_cost.0,
        samples_ms: ms(run.sampler_cost.1),
        rounds,
        cut_short: run.cut_short,
        notes,
    }
}

fn round_result(plan: &Plan, round: &Round) -> RoundResult {
    let mut attempts = Outcomes::default();
    let mut flights = Vec::new();
    for attempt in &round.attempts {
        attempts.add(attempt.outcome());
        flights.extend(attempt.in_flight().map(|(from, to)| Flight {
            key: attempt.key,
            from,
            to,
        }));
    }
    let whole = round.attempts.iter().map(|a| (a, a.outcome()));
    let mut steps = Vec::new();
    for (g, group) in plan.groups.iter().enumerate() {
        for (i, step) in group.steps.iter().enumerate() {
            let runs = || {
                let of_group = round.attempts.iter().filter(move |a| a.group == g);
                of_group.filter_map(move |a| Some((a, a.steps.get(i)?.ending.outcome())))
            };
            let mut outcomes = Outcomes::default();
            runs().for_each(|(_, outcome)| outcomes.add(outcome));
            steps.push(StepCounts {
                step: step.name.clone(),
                outcomes,
                keys: by_key(plan, &round.keys, runs()),
            });
        }
    }
    RoundResult {
        round: round.number,
        keys_found: round.keys.len() as u64,
        attempts,
        keys: by_key(plan, &round.keys, whole),
        steps,
        deadlocks: round.deadlocks.len() as u64,
        lock_waits: round.lock_waits.iter().map(|w| w.waits).sum(),
        pool_timeouts: round.attempts.iter().filter(|a| a.pool_timeout).count() as u64,
        overlapping: overlapping(&flights) as u64,
        waves: waves(round),
        checks: round.checks.clone(),
        duration_ms: ms(round.took),
    }
}

fn by_key<'a>(plan: &Plan, keys: &[TextRow], runs: impl Iterator<Item = (&'a Attempt, Outcome)>) -> Vec<KeyCounts> {
    let mut counts: BTreeMap<Option<usize>, (Outcomes, Vec<&Attempt>)> = BTreeMap::new();
    for (attempt, outcome) in runs {
        let (outcomes, winners) = counts.entry(attempt.key).or_default();
        outcomes.add(outcome);
        if outcome == Outcome::Accepted {
            winners.push(attempt);
        }
    }
    counts
        .into_iter()
        .map(|(key, (outcomes, mut winners))| {
            winners.sort_by_key(|a| a.steps.last().map(|s| s.ended));
            KeyCounts {
                key: key.and_then(|k| keys.get(k)).cloned().unwrap_or_default(),
                outcomes,
                winners: winners
                    .iter()
                    .map(|a| format!("{} {}", plan.groups[a.group].name, a.ticket.session))
                    .collect(),
            }
        })
        .collect()
}

fn waves(round: &Round) -> Vec<WaveResult> {
    let runs = || round.attempts.iter().flat_map(|a| &a.steps);
    round
        .waves
        .iter()
        .map(|wave| {
            let released: Vec<_> = runs()
                .filter(|s| s.sent >= wave.closed && s.sent <= wave.opened)
                .filter_map(|s| s.released)
                .collect();
            let spread = released.iter().max().zip(released.iter().min());
            WaveResult {
                gate: wave.gate.name(),
                sessions: wave.sessions,
                held: wave.held,
                behind_others: wave.behind_others,
                held_at_commit: wave.at_commit.map(|(held, _)| held),
                behind_others_at_commit: wave.at_commit.map(|(_, behind)| behind),
                closed_ms: ms(wave.opened - wave.closed),
                deadline: wave.deadline,
                skew_us: spread.and_then(|(last, first)| Some(last.duration_since(*first).ok()?.as_micros() as u64)),
            }
        })
        .collect()
}

fn steps<'a>(plan: &Plan, attempts: impl Iterator<Item = &'a Attempt>) -> Vec<StepResult> {
    let mut steps: Vec<Vec<StepResult>> = plan
        .groups
        .iter()
        .map(|group| {
            let of = |step: &crate::scenario::Step| StepResult {
                group: group.name.clone(),
                step: step.name.clone(),
                outcomes: Outcomes::default(),
                latency: Times::default(),
                blocked_ms: 0.0,
                running_ms: 0.0,
            };
            group.steps.iter().map(of).collect()
        })
        .collect();
    for attempt in attempts {
        for (result, run) in steps[attempt.group].iter_mut().zip(&attempt.steps) {
            result.outcomes.add(run.ending.outcome());
            let took = run.ended - run.from;
            result.latency.record(took);
            result.blocked_ms += ms(run.blocked);
            result.running_ms += ms(took.saturating_sub(run.blocked));
        }
    }
    steps.into_iter().flatten().collect()
}

fn reasons<'a>(plan: &Plan, attempts: impl Iterator<Item = &'a Attempt>) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    let mut count = |step: Option<&str>, ending: &Ending| {
        let known = reasons.iter_mut().find(|r| {
            r.step.as_deref() == step
                && r.outcome == ending.outcome().name()
                && r.sqlstate == ending.sqlstate
                && r.constraint == ending.constraint
                && (r.sqlstate.is_some() || r.message == ending.message)
        });
        match known {
            Some(reason) => reason.count += 1,
            None => reasons.push(Reason {
                step: step.map(String::from),
                outcome: ending.outcome().name(),
                sqlstate: ending.sqlstate.clone(),
                constraint: ending.constraint.clone(),
                message: ending.message.clone(),
                count: 1,
            }),
        }
    };
    for attempt in attempts {
        if let Some(ending) = &attempt.refused {
            count(None, ending);
        }
        for (step, run) in plan.groups[attempt.group].steps.iter().zip(&attempt.steps) {
            if run.ending.outcome() != Outcome::Accepted {
                count(Some(&step.name), &run.ending);
            }
        }
    }
    reasons.sort_by_key(|r| std::cmp::Reverse(r.count));
    reasons
}

fn pool<'a>(plan: &Plan, attempts: impl Iterator<Item = &'a Attempt>) -> PoolResult {
    let mut result = PoolResult {
        size: plan.pool_size(),
        sessions: plan.sessions(),
        wait: Times::default(),
        timeouts: 0,
    };
    for attempt in attempts {
        result.wait.record(attempt.pool_wait);
        result.timeouts += u64::from(attempt.pool_timeout);
    }
    result
}

fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
