//! Run -> [`Race`]: what was measured, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::draw::TextRow;
use super::pool_cause::{self, Figures};
use super::tally::{ByOutcome, GroupTally, KeyTally, Kind, Refused};
use super::{Round, Run};
use crate::outcome::{Outcome, Outcomes};
use crate::report::{
    BugFacts, GroupFacts, GroupResult, KeyCounts, PoolPoint, PoolResult, Race, Reason, RoundResult, Settled,
    StepCounts, StepResult, Times, WaveResult,
};
use crate::scenario::{Gate, Plan, Schedule};
use crate::watch::{Deadlock, LockWaits, PoolSeen};

/// Points of a pool's usage that a report has.
const POOL_POINTS_MAX: usize = 200;

/// Tells of a run, or of what there is of it.
pub(crate) fn summarise(plan: &Plan, run: &Run, took: Duration) -> Race {
    let rounds: Vec<RoundResult> = run.rounds.iter().map(|r| round_result(plan, r)).collect();
    let mut totals = Outcomes::default();
    rounds.iter().for_each(|r| totals.merge(&r.attempts));
    let mut notes = run.notes.clone();
    if rounds.iter().flat_map(|r| &r.waves).any(|w| w.deadline) {
        notes.push("a gate was opened by its deadline, before all sessions had come to it".into());
    }
    let groups = groups(run);
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
        groups: plan.groups.iter().map(|g| group_facts(plan, g)).collect(),
        group_results: group_results(plan, run, &groups),
        gate_tables: run.gate_tables.clone(),
        rounds_planned: plan.rounds,
        key_columns: run.key_columns.clone(),
        duration_ms: took.as_millis() as u64,
        control: run.control.as_ref().map(|r| round_result(plan, r)),
        attempts: totals,
        steps: steps(plan, run, &groups),
        reasons: reasons(plan, run),
        pools: (0..plan.pools.len())
            .map(|pool| pool_result(plan, run, &groups, pool))
            .collect(),
        settled: settled(run),
        lock_waits: LockWaits::merge(run.rounds.iter().flat_map(|r| &r.lock_waits)),
        deadlocks: Deadlock::distinct(run.rounds.iter().flat_map(|r| r.tally.deadlocks.iter().cloned())),
        server_deadlocks: run.server_deadlocks,
        samples: run.sampler_cost.0,
        samples_ms: ms(run.sampler_cost.1),
        rounds,
        cut_short: run.cut_short.clone(),
        notes,
    }
}

fn group_facts(plan: &Plan, group: &crate::scenario::Group) -> GroupFacts {
    GroupFacts {
        name: group.name.clone(),
        sessions: group.sessions,
        schedule: group.schedule.name(),
        attempts: match &group.schedule {
            Schedule::Rate { ramp } => Some(ramp.starts()),
            schedule => schedule.attempts(group.sessions).map(u64::from),
        },
        gate: group.gate.name(),
        pool: plan.pools[group.pool].name.clone(),
        transaction: group.transaction.map(|t| t.begin()),
    }
}

fn round_result(plan: &Plan, round: &Round) -> RoundResult {
    let tally = &round.tally;
    let mut steps = Vec::new();
    for (group, counts) in plan.groups.iter().zip(&tally.groups) {
        for (step, counts) in group.steps.iter().zip(&counts.steps) {
            let keys = counts
                .keys
                .iter()
                .enumerate()
                .filter(|(_, outcomes)| outcomes.total() > 0);
            steps.push(StepCounts {
                step: step.name.clone(),
                outcomes: counts.outcomes,
                keys: keys
                    .map(|(key, outcomes)| KeyCounts {
                        key: key_at(&round.keys, key),
                        outcomes: *outcomes,
                        winners: Vec::new(),
                    })
                    .collect(),
            });
        }
    }
    let sum = |of: fn(&GroupTally) -> u64| tally.groups.iter().map(of).sum::<u64>();
    RoundResult {
        round: round.number,
        keys_found: round.keys.len() as u64,
        attempts: tally.outcomes,
        keys: keys(plan, round),
        steps,
        deadlocks: tally.deadlocks.len() as u64,
        lock_waits: round.lock_waits.iter().map(|w| w.waits).sum(),
        pool_timeouts: sum(|g| g.pool.wait_timeouts + g.pool.nested_timeouts),
        groups: plan
            .groups
            .iter()
            .zip(&tally.groups)
            .map(|(g, t)| (g.name.clone(), t.outcomes))
            .collect(),
        dropped: sum(|g| g.dropped),
        interrupted: sum(|g| g.interrupted),
        retries: sum(|g| g.tries.saturating_sub(g.outcomes.total())),
        settled: round.settled.clone(),
        overlapping: tally.meetings.met(),
        waves: waves(round),
        checks: round.checks.clone(),
        duration_ms: ms(round.took),
        cut_short: round.cut_short,
    }
}

fn key_at(keys: &[TextRow], index: usize) -> TextRow {
    keys.get(index).cloned().unwrap_or_default()
}

fn keys(plan: &Plan, round: &Round) -> Vec<KeyCounts> {
    let tried = |(_, key): &(usize, &KeyTally)| key.outcomes.total() > 0;
    let keys = round.tally.keys.iter().enumerate().filter(tried);
    keys.map(|(index, key)| KeyCounts {
        key: key_at(&round.keys, index),
        outcomes: key.outcomes,
        winners: key
            .winners
            .iter()
            .map(|(group, session)| format!("{} {session}", plan.groups[*group].name))
            .collect(),
    })
    .collect()
}

fn waves(round: &Round) -> Vec<WaveResult> {
    let releases = &round.tally.releases;
    let wave = |wave: &super::gate::WaveRecord| {
        let released = || {
            releases
                .iter()
                .filter(|(sent, _)| *sent >= wave.closed && *sent <= wave.opened)
        };
        let times = || released().map(|(_, at)| at);
        let spread = times().max().zip(times().min());
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
    };
    round.waves.iter().map(wave).collect()
}

/// Each group over all rounds. What is kept by key and by session is not merged: rounds have their own keys.
fn groups(run: &Run) -> Vec<GroupTally> {
    let mut merged: Vec<GroupTally> = Vec::new();
    for round in &run.rounds {
        merged.resize(merged.len().max(round.tally.groups.len()), GroupTally::default());
        for (all, one) in merged.iter_mut().zip(&round.tally.groups) {
            all.merge(one);
        }
    }
    merged
}

fn by_outcome(latency: &ByOutcome) -> BTreeMap<&'static str, Times> {
    let all = Outcome::ALL.into_iter().map(|o| (o.name(), latency.get(o).clone()));
    all.filter(|(_, times)| times.count() > 0).collect()
}

fn group_results(plan: &Plan, run: &Run, groups: &[GroupTally]) -> Vec<GroupResult> {
    let seconds: f64 = run.rounds.iter().map(|r| r.took.as_secs_f64()).sum();
    let result = |(g, (group, tally)): (usize, (&crate::scenario::Group, &GroupTally))| {
        let rounds = || run.rounds.iter().map(|r| &r.tally.groups[g].sessions);
        let starved = |sessions: &Vec<(u64, u64)>| sessions.iter().filter(|(made, won)| *made > 0 && *won == 0).count();
        let made = || rounds().flatten().map(|(made, _)| *made);
        GroupResult {
            group: group.name.clone(),
            outcomes: tally.outcomes,
            latency: tally.latency.all(),
            latency_by_outcome: by_outcome(&tally.latency),
            per_second: if seconds > 0.0 {
                tally.outcomes.total() as f64 / seconds
            } else {
                0.0
            },
            tries: tally.tries,
            accepted_at: tally.accepted_at.clone(),
            amplification: (tally.outcomes.accepted > 0).then(|| tally.tries as f64 / tally.outcomes.accepted as f64),
            wasted_ms: ms(tally.wasted),
            starved: rounds().map(starved).max().unwrap_or(0) as u64,
            fairness: made().min().zip(made().max()),
            dropped: tally.dropped,
            interrupted: tally.interrupted,
            lag: tally.lag.clone(),
        }
    };
    plan.groups.iter().zip(groups).enumerate().map(result).collect()
}

fn steps(plan: &Plan, run: &Run, groups: &[GroupTally]) -> Vec<StepResult> {
    let mut steps = Vec::new();
    for (g, (group, tally)) in plan.groups.iter().zip(groups).enumerate() {
        for (i, (step, tally)) in group.steps.iter().zip(&tally.steps).enumerate() {
            steps.push(StepResult {
                group: group.name.clone(),
                step: step.name.clone(),
                outcomes: tally.outcomes,
                latency: tally.latency.all(),
                latency_by_outcome: by_outcome(&tally.latency),
                latency_by_key: latency_by_key(run, g, i),
                blocked_ms: ms(tally.blocked),
                running_ms: ms(tally.took.saturating_sub(tally.blocked)),
            });
        }
    }
    steps
}

/// Over all rounds: a key is the same when its values are.
fn latency_by_key(run: &Run, group: usize, step: usize) -> Vec<(TextRow, Times)> {
    let mut by_key: BTreeMap<TextRow, Times> = BTreeMap::new();
    for round in &run.rounds {
        let Some(times) = &round.tally.groups[group].steps[step].key_times else {
            continue;
        };
        for (key, times) in times.iter().enumerate().filter(|(_, times)| !times.is_empty()) {
            let all = by_key.entry(key_at(&round.keys, key)).or_default();
            times
                .iter()
                .for_each(|us| all.record(Duration::from_micros(u64::from(*us))));
        }
    }
    by_key.into_iter().collect()
}

fn reasons(plan: &Plan, run: &Run) -> Vec<Reason> {
    let mut merged: Vec<(Kind, Refused)> = Vec::new();
    for (kind, refused) in run.rounds.iter().flat_map(|r| &r.tally.refusals) {
        match merged.iter_mut().find(|(known, _)| known == kind) {
            Some((_, known)) => known.count += refused.count,
            None => merged.push((kind.clone(), refused.clone())),
        }
    }
    let name = |(group, step): (usize, usize)| {
        let steps = &plan.groups[group].steps;
        match steps.get(step) {
            Some(step) => step.name.clone(),
            None if step == steps.len() => "commit".into(),
            None => "begin".into(),
        }
    };
    let mut reasons: Vec<Reason> = merged
        .into_iter()
        .map(|(kind, refused)| Reason {
            step: kind.step.map(name),
            outcome: kind.outcome.name(),
            sqlstate: kind.sqlstate,
            constraint: kind.constraint,
            message: refused.first.message.clone(),
            detail: refused.first.detail.clone(),
            context: refused.first.context.clone(),
            fields: refused.first.fields.iter().cloned().collect(),
            count: refused.count,
        })
        .collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.message.cmp(&b.message)));
    reasons
}

fn pool_result(plan: &Plan, run: &Run, groups: &[GroupTally], pool: usize) -> PoolResult {
    let mut seen = PoolSeen::default();
    let mut began = Duration::ZERO;
    for round in &run.rounds {
        if let Some(of_round) = round.pools.get(pool) {
            seen.add(of_round, began);
        }
        began += round.took;
    }
    let point = |(at, in_use, waiting): (Duration, u32, u32)| PoolPoint {
        at_ms: ms(at),
        in_use,
        waiting,
    };
    let mut result = PoolResult {
        name: plan.pools[pool].name.clone(),
        size: plan.pool_size(pool),
        sessions: plan.sessions_of(pool),
        wait: Times::default(),
        timeouts: 0,
        nested_timeouts: 0,
        create_timeouts: 0,
        server_full: 0,
        connect_errors: 0,
        usage: seen.thinned(POOL_POINTS_MAX).into_iter().map(point).collect(),
        dry_ms: ms(seen.dry),
        causes: Vec::new(),
    };
    let of_pool = plan.groups.iter().zip(groups).filter(|(g, _)| g.pool == pool);
    for (_, tally) in of_pool {
        let tally = &tally.pool;
        result.wait.merge(&tally.wait);
        result.timeouts += tally.wait_timeouts + tally.nested_timeouts;
        result.nested_timeouts += tally.nested_timeouts;
        result.create_timeouts += tally.create_timeouts;
        result.server_full += tally.server_full;
        result.connect_errors += tally.connect_errors;
    }
    let failed = result.timeouts + result.create_timeouts + result.server_full + result.connect_errors;
    let lent = result.wait.count().saturating_sub(failed);
    let (per_second, is_open) = pool_cause::per_second(plan, pool, lent, began.as_secs_f64());
    result.causes = pool_cause::causes(&Figures {
        size: result.size,
        nesting: pool_cause::nesting(plan, pool),
        seen: &seen,
        timeouts: result.timeouts,
        nested_timeouts: result.nested_timeouts,
        create_timeouts: result.create_timeouts,
        server_full: result.server_full,
        connect_errors: result.connect_errors,
        lent,
        is_gated: plan.groups.iter().any(|g| g.pool == pool && g.gate != Gate::None),
        per_second,
        is_open,
        create: plan.pools[pool].create,
        wait: plan.pools[pool].wait,
        said: said(run, result.server_full > 0),
    });
    result
}

/// What the server said of a connection that it didn't take.
fn said(run: &Run, full: bool) -> Option<String> {
    let all = run.rounds.iter().flat_map(|r| &r.tally.refusals);
    let mut refused = all.filter(|(kind, _)| kind.step.is_none() && kind.outcome == Outcome::Refused);
    let (_, first) = refused.find(|(kind, refused)| match full {
        true => kind.sqlstate.is_some(),
        false => kind.sqlstate.is_none() && refused.first.message.starts_with("cannot connect"),
    })?;
    // without the address before it and the advice behind it
    let (_, why) = first.first.message.split_once(": ")?;
    Some(why.split(" (SQLSTATE").next().unwrap_or(why).to_string())
}

fn settled(run: &Run) -> Option<Settled> {
    let mut rounds = run.rounds.iter().filter_map(|r| r.settled.as_ref());
    let mut all = rounds.next()?.clone();
    for one in rounds {
        all.asked += one.asked;
        all.left_out += one.left_out;
        all.stored += one.stored;
        all.lost += one.lost;
        all.ghosts += one.ghosts;
        all.doubts_stored += one.doubts_stored;
        all.doubts_absent += one.doubts_absent;
        all.examples.extend(one.examples.iter().cloned());
        all.problem = all.problem.or_else(|| one.problem.clone());
    }
    Some(all)
}

fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
