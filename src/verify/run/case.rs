//! What is known of a check so far.

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::{self, Rows};
use crate::verify::{Check, CheckResult, Decision, Options, SAMPLE};

/// A check under way, on one snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// Whether it is one of those that this snapshot is for.
    pub(super) is_wanted: bool,
    /// Ranges of it that are still to be looked at, and of how many; 1 where it is whole.
    pub(super) parts_left: usize,
    pub(super) parts: usize,
    rows: BTreeMap<usize, Rows>,
    total: Option<u64>,
    undecided: Option<String>,
    skipped: Option<String>,
    /// Why the snapshot was lost to it; it is run again on another one.
    pub(super) conflict: Option<String>,
    pub(super) took: Duration,
}

impl Case {
    pub(super) fn wanted() -> Case {
        Case {
            is_wanted: true,
            parts_left: 1,
            parts: 1,
            ..Case::default()
        }
    }

    pub(super) fn found(&mut self, part: usize, rows: Rows, total: Option<u64>) {
        self.rows.insert(part, rows);
        self.total = self.total.or(total);
        self.parts_left -= 1;
    }

    pub(super) fn fail(&mut self, why: String) {
        self.undecided.get_or_insert(why);
        self.parts_left -= 1;
    }

    pub(super) fn skip(&mut self, why: String) {
        self.skipped = Some(why);
        self.parts_left = 0;
    }

    /// Whether somebody has begun to look at it.
    pub(super) fn is_begun(&self) -> bool {
        !self.took.is_zero()
    }

    pub(super) fn is_done(&self) -> bool {
        self.parts_left == 0
    }

    /// Whether more ranges would tell nothing new: more rows were found than are counted, or it can't be decided any more.
    pub(super) fn is_settled(&self, check: &Check) -> bool {
        let count: u64 = self.rows.values().map(|rows| rows.count).sum();
        self.conflict.is_some() || judge::cap(check, self.total, SAMPLE).is_some_and(|cap| count > cap)
    }

    /// What became of the check.
    pub(super) fn result(self, check: &Check, options: &Options, not_begun: &str) -> CheckResult {
        let mut result = CheckResult::of(check);
        result.duration_ms = self.took.as_secs_f64() * 1e3;
        let rows = self.rows.into_values().reduce(Rows::and).unwrap_or_default();
        let sample = options.sample.or(check.sample).unwrap_or(SAMPLE);
        let rows = rows.capped(judge::cap(check, self.total, sample), sample);
        let undecided = match self.parts_left {
            0 => self.undecided,
            _ => self.undecided.or(Some(not_begun.to_string())),
        };
        match (self.skipped, undecided) {
            (Some(why), _) => {
                result.decision = Decision::Skipped;
                result.reason = Some(why);
            }
            (None, None) => judge::judge(check, rows, self.total, &mut result),
            (None, Some(why)) => {
                // what some ranges have shown is no less wrong for what others could not show
                judge::judge(check, rows, self.total, &mut result);
                match result.decision {
                    Decision::Violated => {
                        result.count_is_capped = true;
                        result.reason = Some(format!("and there may be more: {why}"));
                    }
                    _ => {
                        result = CheckResult {
                            decision: Decision::CouldNotDecide,
                            reason: Some(why),
                            duration_ms: result.duration_ms,
                            ..CheckResult::of(check)
                        }
                    }
                }
            }
        }
        result
    }
}
