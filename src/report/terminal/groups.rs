//! How the groups fared: their rates, latency, retries, what was not made; and what settling found.

use std::io::{self, Write};
use std::time::Duration;

use super::{Paper, Table};
use crate::report::{GroupFacts, GroupResult, Race, Settled, Times};
use crate::scenario::Figure;
use crate::verdict::show_time;

/// Tries that are counted one by one; later ones together.
const TRIES_LISTED: usize = 5;

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, race: &Race) -> io::Result<()> {
    let groups: Vec<_> = race.groups.iter().zip(&race.group_results).collect();
    if groups.iter().any(|(facts, result)| has_more_to_say(facts, result)) {
        paper.title("Groups, whole attempts")?;
        paper.table(2, table(&groups))?;
        for (facts, result) in &groups {
            let name = match groups.len() {
                1 => String::new(),
                _ => format!("{}: ", facts.name),
            };
            for said in sentences(facts, result) {
                paper.line(2, &format!("{name}{said}"))?;
            }
        }
    }
    match &race.settled {
        Some(settled) => self::settled(paper, settled),
        None => Ok(()),
    }
}

/// Whether there is more to a group than sessions that make an attempt each.
fn has_more_to_say(facts: &GroupFacts, result: &GroupResult) -> bool {
    facts.attempts != Some(u64::from(facts.sessions))
        || facts.schedule != "per-session"
        || result.tries > result.outcomes.total()
        || result.dropped + result.interrupted > 0
}

fn table(groups: &[(&GroupFacts, &GroupResult)]) -> Table {
    let mut table = Table::with_header(&[
        "group",
        "schedule",
        ">sessions",
        ">attempts",
        ">a second",
        ">med",
        ">p95",
        ">p99",
        ">max",
    ]);
    for (facts, result) in groups {
        let figure = |f| result.latency.figure(f).map_or(String::new(), show_time);
        table.row([
            facts.name.clone(),
            facts.schedule.to_string(),
            facts.sessions.to_string(),
            result.outcomes.total().to_string(),
            format!("{:.1}", result.per_second),
            figure(Figure::Percentile(50.0)),
            figure(Figure::Percentile(95.0)),
            figure(Figure::Percentile(99.0)),
            figure(Figure::Max),
        ]);
    }
    table
}

/// What else there is to say of a group: nothing where all went as planned.
fn sentences(facts: &GroupFacts, result: &GroupResult) -> Vec<String> {
    let mut said = Vec::new();
    if result.tries > result.outcomes.total() {
        said.push(tries(result));
        // where nobody retries, who has nothing accepted has mostly lost a race, as he should
        if result.starved > 0 && result.outcomes.accepted > 0 {
            said.push(format!(
                "{} of {} sessions made attempts and had none accepted",
                result.starved, facts.sessions
            ));
        }
    }
    // where each session has a number of its own to make, they are equal
    if let Some((fewest, most)) = result.fairness.filter(|(fewest, most)| fewest < most)
        && ["shared", "constant"].contains(&facts.schedule)
    {
        said.push(format!("a session made {fewest} to {most} attempts in a round"));
    }
    if result.lag.count() > 0 {
        said.push(format!("starts were late by {}", spread(&result.lag)));
    }
    if result.dropped > 0 {
        said.push(match facts.schedule {
            "constant-rate" | "ramping-rate" => {
                format!("{} starts were dropped: no session was free", result.dropped)
            }
            _ => format!("{} attempts were not begun before the time was over", result.dropped),
        });
    }
    if result.interrupted > 0 {
        said.push(format!(
            "{} attempts were interrupted: their time was over, or the run was stopped",
            result.interrupted
        ));
    }
    said
}

fn tries(result: &GroupResult) -> String {
    let mut parts = Vec::new();
    for (i, n) in result.accepted_at.iter().enumerate().take(TRIES_LISTED) {
        if *n > 0 {
            parts.push(format!("{n} at try {}", i + 1));
        }
    }
    let later: u64 = result.accepted_at.iter().skip(TRIES_LISTED).sum();
    if later > 0 {
        parts.push(format!("{later} later"));
    }
    let mut text = match parts.is_empty() {
        true => "none was accepted".to_string(),
        false => format!("accepted {}", parts.join(", ")),
    };
    text.push_str(&format!(
        "; {} tries for {} attempts",
        result.tries,
        result.outcomes.total()
    ));
    if let Some(amplification) = result.amplification {
        text.push_str(&format!(", {amplification:.2} for each that was accepted"));
    }
    let wasted = show_time(Duration::from_secs_f64(result.wasted_ms / 1e3));
    text.push_str(&format!("; {wasted} went into tries that failed"));
    text
}

fn spread(times: &Times) -> String {
    let figure = |f| times.figure(f).map_or(String::new(), show_time);
    format!(
        "med {}, p99 {}, max {}",
        figure(Figure::Percentile(50.0)),
        figure(Figure::Percentile(99.0)),
        figure(Figure::Max)
    )
}

fn settled<W: Write>(paper: &mut Paper<'_, W>, settled: &Settled) -> io::Result<()> {
    paper.title("Told and stored")?;
    paper.line(
        2,
        &format!(
            "{} attempts looked up: {} are stored; {} accepted and not stored, {} not accepted and stored",
            settled.asked, settled.stored, settled.lost, settled.ghosts
        ),
    )?;
    if settled.doubts_stored + settled.doubts_absent > 0 {
        let text = format!(
            "of those in doubt {} are stored and count as accepted, {} are not and count as refused",
            settled.doubts_stored, settled.doubts_absent
        );
        paper.line(2, &text)?;
    }
    for example in &settled.examples {
        paper.line(4, example)?;
    }
    let named = settled.examples.len() as u64;
    if settled.lost + settled.ghosts > named {
        paper.line(4, &format!("and {} more", settled.lost + settled.ghosts - named))?;
    }
    if settled.left_out > 0 {
        paper.line(2, &format!("{} more were not looked up", settled.left_out))?;
    }
    match &settled.problem {
        Some(problem) => paper.line(2, &format!("not all could be looked up: {problem}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Outcomes};

    fn facts(schedule: &'static str) -> GroupFacts {
        GroupFacts {
            name: "guest".into(),
            sessions: 4,
            schedule,
            attempts: Some(4),
            gate: "none",
            pool: "pool".into(),
            transaction: None,
        }
    }

    fn result(accepted: u64) -> GroupResult {
        let mut outcomes = Outcomes::default();
        (0..accepted).for_each(|_| outcomes.add(Outcome::Accepted));
        GroupResult {
            group: "guest".into(),
            outcomes,
            latency: Times::default(),
            latency_by_outcome: Default::default(),
            per_second: 1.0,
            tries: accepted,
            accepted_at: vec![accepted],
            amplification: Some(1.0),
            wasted_ms: 0.0,
            starved: 0,
            fairness: Some((1, 1)),
            dropped: 0,
            interrupted: 0,
            lag: Times::default(),
        }
    }

    #[test]
    fn where_each_session_made_its_one_attempt_there_is_nothing_to_say() {
        assert!(!has_more_to_say(&facts("per-session"), &result(4)));
        assert!(has_more_to_say(&facts("shared"), &result(4)));
        assert_eq!(sentences(&facts("per-session"), &result(4)), Vec::<String>::new());
    }

    #[test]
    fn retries_starved_sessions_and_what_was_not_made_are_told() {
        let troubled = GroupResult {
            tries: 20,
            accepted_at: vec![1, 0, 2, 0, 0, 1],
            amplification: Some(5.0),
            wasted_ms: 1_500.0,
            starved: 1,
            dropped: 7,
            interrupted: 2,
            fairness: Some((1, 9)),
            ..result(4)
        };
        assert_eq!(
            sentences(&facts("constant"), &troubled),
            [
                "accepted 1 at try 1, 2 at try 3, 1 later; 20 tries for 4 attempts, 5.00 for each that was accepted; \
                 1.50 s went into tries that failed",
                "1 of 4 sessions made attempts and had none accepted",
                "a session made 1 to 9 attempts in a round",
                "7 attempts were not begun before the time was over",
                "2 attempts were interrupted: their time was over, or the run was stopped",
            ]
        );
        let dropped = &sentences(&facts("constant-rate"), &troubled)[2];
        assert_eq!(dropped, "7 starts were dropped: no session was free");
    }
}
