//! What was seen -> what became of the check. Pure.

use crate::verify::{Check, CheckResult, Count, Decision, Finding, Key, Severity, Threshold};

/// The rows that a check found, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// Those that are not pending.
    pub(super) count: u64,
    /// Whether there are more than were counted.
    pub(super) is_capped: bool,
    pub(super) pending: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) keys: Vec<Key>,
    pub(super) keys_pending: Vec<Key>,
}

impl Rows {
    /// With those of a later part of the same check.
    pub(super) fn and(mut self, later: Rows) -> Rows {
        self.count += later.count;
        self.pending += later.pending;
        self.is_capped |= later.is_capped;
        self.findings.extend(later.findings);
        self.keys.extend(later.keys);
        self.keys_pending.extend(later.keys_pending);
        self
    }

    /// Not more than the check counts, and keeps.
    pub(super) fn capped(mut self, cap: Option<u64>, sample: usize) -> Rows {
        let cap = cap.unwrap_or(u64::MAX);
        self.is_capped |= self.count > cap;
        self.count = self.count.min(cap);
        self.pending = self.pending.min(cap);
        let keys_max = usize::try_from(cap).unwrap_or(usize::MAX);
        self.keys.truncate(keys_max);
        self.keys_pending.truncate(keys_max);
        for pending in [false, true] {
            let mut kept = 0;
            self.findings.retain(|finding| {
                kept += usize::from(finding.pending == pending);
                finding.pending != pending || kept <= sample
            });
        }
        // what is wrong first, then what may be
        self.findings.sort_by_key(|finding| finding.pending);
        self
    }
}

/// Up to where rows are counted; none: all of them.
///
/// A threshold above the cap raises it: the count must tell on which side of it it is.
pub(super) fn cap(check: &Check, total: Option<u64>, sample: usize) -> Option<u64> {
    let cap = match check.count {
        Count::Capped(cap) => cap,
        Count::None => (sample as u64).max(1),
        Count::Exact => return None,
    };
    let enough = |threshold: &Threshold| match (threshold.is_percentage, total) {
        (false, _) => threshold.bound as u64,
        (true, total) => (threshold.bound / 100.0 * total.unwrap_or(0) as f64) as u64,
    };
    let thresholds = check.warn_if.iter().chain(&check.error_if);
    let needed = thresholds.map(|t| enough(t).saturating_add(1)).max();
    // room for one more row than is counted
    Some(cap.max(needed.unwrap_or(0)).min(u64::MAX >> 2))
}

/// Whether a percentage has to be judged.
pub(super) fn wants_total(check: &Check) -> bool {
    let mut thresholds = check.warn_if.iter().chain(&check.error_if);
    check.of.is_some() && thresholds.any(|t| t.is_percentage)
}

/// How bad a count is; none when it breaks nothing.
pub(crate) fn level(check: &Check, count: u64, total: Option<u64>) -> Option<Severity> {
    let is_exceeded = |t: &Option<Threshold>| t.as_ref().is_some_and(|t| t.is_exceeded(count, total));
    match (&check.error_if, &check.warn_if) {
        (None, None) => (count > 0).then_some(check.severity),
        (error_if, _) if is_exceeded(error_if) => Some(Severity::Error),
        (_, warn_if) if is_exceeded(warn_if) => Some(Severity::Warn),
        _ => None,
    }
}

/// Judges what was found.
pub(super) fn judge(check: &Check, rows: Rows, total: Option<u64>, result: &mut CheckResult) {
    let level_now = level(check, rows.count, total);
    result.decision = match level_now {
        Some(_) => Decision::Violated,
        // with the young rows it would be: nobody knows yet
        None if rows.pending > 0 && level(check, rows.count + rows.pending, total).is_some() => Decision::Pending,
        None => Decision::Held,
    };
    result.level = level_now;
    result.count = rows.count;
    result.count_is_capped = rows.is_capped;
    result.pending = rows.pending;
    result.total = total;
    result.findings = rows.findings;
    result.keys = rows.keys;
    result.keys_pending = rows.keys_pending;
}

/// An error's words without the values in them, for checks that mask some: what is quoted is left out, and so are details.
pub(super) fn without_values(message: &str) -> String {
    let mut text = String::new();
    for (i, part) in message.split('"').enumerate() {
        match i % 2 {
            0 => text.push_str(part),
            _ => text.push_str("\"***\""),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn check(header: &str) -> Check {
        let lines: String = header.lines().map(|l| format!("-- {l}\n")).collect();
        let text = format!("-- /// db-race check\n-- id = 'a'\n-- title = 't'\n{lines}-- ///\nselect 1");
        Check::parse(Source::new("a.sql", text)).unwrap()
    }

    fn judged(header: &str, count: u64, pending: u64, total: Option<u64>) -> (Decision, Option<Severity>) {
        let check = check(header);
        let mut result = CheckResult::of(&check);
        let rows = Rows {
            count,
            pending,
            ..Rows::default()
        };
        judge(&check, rows, total, &mut result);
        (result.decision, result.level)
    }

    #[test]
    fn errors_come_before_warnings_and_below_both_it_holds() {
        use Decision::{Held, Pending, Violated};
        let both = "warn_if = '> 0'\nerror_if = '> 10'";
        for (header, count, pending, expected) in [
            ("", 0, 0, (Held, None)),
            ("", 1, 0, (Violated, Some(Severity::Error))),
            ("severity = 'warn'", 1, 0, (Violated, Some(Severity::Warn))),
            (both, 1, 0, (Violated, Some(Severity::Warn))),
            (both, 11, 0, (Violated, Some(Severity::Error))),
            ("error_if = '> 10'", 10, 0, (Held, None)),
            ("warn_if = '>= 10'", 10, 0, (Violated, Some(Severity::Warn))),
            ("", 0, 1, (Pending, None)),
            ("", 1, 1, (Violated, Some(Severity::Error))),
            ("error_if = '> 10'", 10, 1, (Pending, None)),
            ("error_if = '> 10'", 5, 1, (Held, None)),
        ] {
            assert_eq!(
                judged(header, count, pending, None),
                expected,
                "{header} {count} {pending}"
            );
        }
        assert_eq!(judged("error_if = '> 1%'\nof = 'x'", 2, 0, Some(200)).0, Held);
        assert_eq!(judged("error_if = '> 1%'\nof = 'x'", 3, 0, Some(200)).0, Violated);
    }

    #[test]
    fn it_is_counted_as_far_as_the_thresholds_need() {
        assert_eq!(cap(&check(""), None, 5), Some(1_000));
        assert_eq!(cap(&check("count = 'exact'"), None, 5), None);
        assert_eq!(cap(&check("count = 'none'"), None, 5), Some(5));
        assert_eq!(cap(&check("count = 'none'"), None, 0), Some(1));
        assert_eq!(cap(&check("error_if = '> 5000'"), None, 5), Some(5_001));
        assert_eq!(
            cap(&check("error_if = '> 1%'\nof = 'x'"), Some(1_000_000), 5),
            Some(10_001)
        );
        assert_eq!(cap(&check("count = 'none'\nerror_if = '> 9'"), None, 5), Some(10));
    }

    #[test]
    fn parts_add_up_to_the_cap() {
        let finding = |pending| Finding {
            key: vec![],
            row: vec![],
            pending,
        };
        let part = || Rows {
            count: 3,
            pending: 1,
            findings: vec![finding(true), finding(false), finding(false)],
            ..Rows::default()
        };
        let rows = part().and(part()).capped(Some(5), 3);
        assert_eq!((rows.count, rows.is_capped, rows.pending), (5, true, 2));
        let pending: Vec<bool> = rows.findings.iter().map(|f| f.pending).collect();
        assert_eq!(pending, [false, false, false, true, true]);
    }

    #[test]
    fn values_are_left_out_of_errors() {
        let text = without_values("invalid input syntax for type integer: \"a@b.example\" (SQLSTATE 22P02)");
        assert_eq!(text, "invalid input syntax for type integer: \"***\" (SQLSTATE 22P02)");
        assert_eq!(without_values("an open \"quote"), "an open \"***\"");
    }
}
