//! What a memory tells of the past. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diff::{Key, Known};
use super::store::{PastLook, PastRun};
use super::{Moment, Retired, Subject};
use crate::source::like;

/// Columns of a trend at the most.
const TREND_MAX: usize = 24;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Runs, trends and what is open.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The version of the JSON form.
    pub schema: &'static str,
    /// The memory.
    pub state: String,
    /// Where it begins.
    pub since: Moment,
    /// The runs, oldest first.
    pub runs: Vec<PastRun>,
    /// The checks, on each database.
    pub checks: Vec<Trend>,
    /// Findings that are open, waived ones included, oldest first.
    pub open: Vec<Open>,
    /// What was retired, oldest first.
    pub retired: Vec<Retired>,
}

/// How a check came out over time.
#[derive(Clone, Debug, Serialize)]
pub struct Trend {
    /// The check, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// Runs that had it.
    pub runs: usize,
    /// Runs in which it could not be decided.
    pub undecided: usize,
    /// Open findings, waived ones not included, oldest run first; none where it was not decided. A figure may stand for several runs: the worst.
    pub trend: Vec<Option<usize>>,
    /// The same as a line of blocks; `·` where it was not decided.
    pub sparkline: String,
    /// Open in the last run that decided it.
    pub open: usize,
    /// The most that were open at once.
    pub open_max: usize,
    /// Findings that were new, or back.
    pub came: usize,
    /// Findings that were fixed.
    pub fixed: usize,
}

/// A finding that is open.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// The check, and where.
    #[serde(flatten)]
    pub subject: Subject,
    /// What identifies it.
    pub key: Key,
    /// When it was seen for the first time.
    pub first_seen: Moment,
    /// When it was seen last.
    pub last_seen: Moment,
    /// Since when it has been open without a break.
    pub open_since: Moment,
    /// For how long that is, in seconds.
    pub open_s: u64,
    /// In how many runs it was seen.
    pub times_seen: u64,
    /// How often it came back.
    pub times_back: u64,
}

/// Puts it together, for all checks or those of a pattern.
#[allow(clippy::too_many_arguments, reason = "the parts of a past")]
pub fn history(
    state: &str,
    runs: Vec<PastRun>,
    looks: Vec<PastLook>,
    open: Vec<Known>,
    mut retired: Vec<Retired>,
    wanted: Option<&str>,
    since: Moment,
    now: Moment,
) -> History {
    let is_wanted = |subject: &Subject| wanted.is_none_or(|pattern| like(pattern, &subject.check));
    let mut by_subject: BTreeMap<Subject, Vec<PastLook>> = BTreeMap::new();
    for look in looks.into_iter().filter(|look| is_wanted(&look.subject)) {
        by_subject.entry(look.subject.clone()).or_default().push(look);
    }
    let mut open: Vec<Open> = open
        .into_iter()
        .filter(|known| is_wanted(&known.subject))
        .map(|known| Open {
            open_s: now.since(known.open_since).as_secs(),
            subject: known.subject,
            key: known.key,
            first_seen: known.first_seen,
            last_seen: known.last_seen,
            open_since: known.open_since,
            times_seen: known.times_seen,
            times_back: known.times_back,
        })
        .collect();
    open.sort_by_key(|open| open.open_since);
    retired.retain(|retired| is_wanted(&retired.subject));
    History {
        schema: "db-race/history/1",
        state: state.into(),
        since,
        runs,
        checks: by_subject
            .into_iter()
            .map(|(subject, looks)| trend(subject, &looks))
            .collect(),
        open,
        retired,
    }
}

fn trend(subject: Subject, looks: &[PastLook]) -> Trend {
    let figure = |look: &PastLook| match look.decision.as_str() {
        "could_not_decide" | "skipped" => None,
        _ => Some(look.counts.open),
    };
    let figures: Vec<Option<usize>> = looks.iter().map(figure).collect();
    let trend = thinned(&figures, TREND_MAX);
    Trend {
        subject,
        runs: looks.len(),
        undecided: looks.iter().filter(|look| look.decision == "could_not_decide").count(),
        sparkline: sparkline(&trend),
        trend,
        open: figures.iter().rev().flatten().next().copied().unwrap_or_default(),
        open_max: figures.iter().flatten().max().copied().unwrap_or_default(),
        came: looks.iter().map(|look| look.counts.new + look.counts.came_back).sum(),
        fixed: looks.iter().map(|look| look.counts.fixed).sum(),
    }
}

/// What an exit code says of a run, in a word or two.
pub fn ending(exit_code: u8) -> &'static str {
    match exit_code {
        0 => "held",
        1 => "warnings",
        2 => "violated",
        3 => "inconclusive",
        69 => "unreachable",
        130 => "interrupted",
        _ => "failed",
    }
}

/// At most so many figures, each the largest of its neighbours.
fn thinned(figures: &[Option<usize>], at_most: usize) -> Vec<Option<usize>> {
    if figures.len() <= at_most {
        return figures.to_vec();
    }
    let from = |column: usize| column * figures.len() / at_most;
    let columns = (0..at_most).map(|column| &figures[from(column)..from(column + 1)]);
    columns.map(|part| part.iter().flatten().max().copied()).collect()
}

/// A line of blocks, the highest for the largest figure. Nothing is the lowest, and something never is.
fn sparkline(figures: &[Option<usize>]) -> String {
    let max = figures.iter().flatten().max().copied().unwrap_or_default();
    let block = |figure: &Option<usize>| match figure {
        None => '·',
        Some(0) => LEVELS[0],
        Some(n) => LEVELS[(n * (LEVELS.len() - 1)).div_ceil(max.max(1)).clamp(1, LEVELS.len() - 1)],
    };
    figures.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_something_where_there_is_something() {
        assert_eq!(sparkline(&[Some(0), Some(1), Some(500), Some(1_000), None]), "▁▂▅█·");
        assert_eq!(sparkline(&[Some(0), Some(0)]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn a_long_past_is_thinned_to_its_worst() {
        let mut figures = vec![Some(0); 100];
        figures[37] = Some(9);
        figures[99] = None;
        let thinned = thinned(&figures, 24);
        assert_eq!(thinned.len(), 24);
        assert_eq!(thinned.iter().filter(|f| **f == Some(9)).count(), 1);
    }
}
