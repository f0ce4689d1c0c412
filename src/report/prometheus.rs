//! Metrics in the text form that Prometheus reads, for node_exporter's textfile collector.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>
//!
//! Only gauges, and `# EOF` at the end: so the one form is right for the classic parser, to which the last line is a comment,
//! and for OpenMetrics. A run is a moment, not a sum, so nothing here is a counter. There are no timestamps: the collector
//! refuses them.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use super::case::{cases, database, database_name};
use super::escape::visible;
use super::{Race, Report};
use crate::audit::AuditResult;
use crate::outcome::Outcome;
use crate::scenario::Figure;
use crate::verdict::{Judged, State, check_rule};
use crate::verify::{CheckResult, Decision};

const JUDGED: [(Judged, &str); 5] = [
    (Judged::Passed, "passed"),
    (Judged::Warned, "warned"),
    (Judged::Failed, "failed"),
    (Judged::Inconclusive, "inconclusive"),
    (Judged::Interrupted, "interrupted"),
];
const DECISIONS: [(Decision, &str); 5] = [
    (Decision::Held, "held"),
    (Decision::Violated, "violated"),
    (Decision::Pending, "pending"),
    (Decision::CouldNotDecide, "could_not_decide"),
    (Decision::Skipped, "skipped"),
];
const STATES: [(State, &str); 5] = [
    (State::Held, "held"),
    (State::Broken, "broken"),
    (State::NoData, "no_data"),
    (State::Pending, "pending"),
    (State::Skipped, "skipped"),
];
const PERCENTILES: [(f64, &str); 4] = [(50.0, "50"), (90.0, "90"), (95.0, "95"), (99.0, "99")];

/// Writes the report as metrics. All of them have the label `run`, by which the files of several runs in one directory
/// differ.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, exit_code: u8, run: &str, out: &mut impl Write) -> io::Result<()> {
    let mut metrics = Metrics::new(run);
    of_run(&mut metrics, report, exit_code);
    for case in cases(report) {
        if let Some(check) = case.check {
            let on = match report.race {
                Some(_) => String::new(),
                None => database(report, check),
            };
            of_check(&mut metrics, report, check, &on);
        }
    }
    of_databases(&mut metrics, report);
    if let Some(audit) = &report.audit {
        of_audit(&mut metrics, audit);
    }
    if let Some(race) = &report.race {
        of_race(&mut metrics, report, race);
    }
    metrics.write(out)
}

fn of_run(metrics: &mut Metrics, report: &Report, exit_code: u8) {
    let begun = seconds(&report.started_at).unwrap_or_default();
    let took = Duration::from_millis(report.duration_ms);
    let at = [("command", report.command), ("version", report.version)];
    metrics.add("db_race_run_info", "What was run.", &at, 1.0);
    let help = "When the run ended, in seconds since 1970.";
    metrics.add("db_race_run_timestamp_seconds", help, &[], begun + took.as_secs_f64());
    metrics.add(
        "db_race_run_duration_seconds",
        "How long the run took.",
        &[],
        took.as_secs_f64(),
    );
    metrics.add(
        "db_race_run_exit_code",
        "The exit code of the run: 0 held, 2 violated.",
        &[],
        f64::from(exit_code),
    );
    for (judged, name) in JUDGED {
        let is = f64::from(u8::from(judged == report.verdict.outcome));
        metrics.add(
            "db_race_run_verdict",
            "1 for what the run came to.",
            &[("verdict", name)],
            is,
        );
    }
}

/// RFC 3339 as seconds since 1970.
fn seconds(at: &str) -> Option<f64> {
    let at = humantime::parse_rfc3339_weak(at).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

fn of_check(metrics: &mut Metrics, report: &Report, check: &CheckResult, on: &str) {
    let id = visible(&check.id);
    let mut labels = vec![("check", id.as_ref())];
    match &report.race {
        Some(race) => labels.push(("scenario", &race.scenario)),
        None => labels.push(("database", on)),
    }
    labels.push(("severity", check.severity.name()));
    for (decision, name) in DECISIONS {
        let labels = [labels.as_slice(), &[("state", name)]].concat();
        let is = f64::from(u8::from(decision == check.decision));
        metrics.add("db_race_check_state", "1 for how the check came out.", &labels, is);
    }
    let help = "How long the check took.";
    metrics.add("db_race_check_duration_seconds", help, &labels, check.duration_ms / 1e3);
    // without an answer there is no count, least of all 0
    if matches!(check.decision, Decision::Held | Decision::Violated | Decision::Pending) {
        let help = "Rows that break the invariant, counted up to the cap of the check.";
        metrics.add("db_race_check_violations", help, &labels, check.count as f64);
        let help = "Rows that would break it, and are too young to tell.";
        metrics.add("db_race_check_pending", help, &labels, check.pending as f64);
    }
}

fn of_databases(metrics: &mut Metrics, report: &Report) {
    for found in &report.databases {
        let name = database_name(found);
        let on = [("database", name.as_str())];
        let help = "1 where the database is a standby.";
        metrics.add(
            "db_race_database_standby",
            help,
            &on,
            f64::from(u8::from(found.standby)),
        );
        if let Some(lag) = found.replay_lag_ms {
            metrics.add(
                "db_race_database_replay_lag_seconds",
                "How far the standby is behind.",
                &on,
                lag / 1e3,
            );
        }
        let held = found.snapshots.iter().map(|s| s.held_ms).fold(0.0, f64::max);
        let help = "The longest time that a snapshot was held.";
        metrics.add("db_race_snapshot_held_seconds", help, &on, held / 1e3);
    }
}

fn of_audit(metrics: &mut Metrics, audit: &AuditResult) {
    for check in &audit.checks {
        let (id, on) = (visible(&check.subject.check), visible(&check.subject.database));
        let labels = [("check", id.as_ref()), ("database", on.as_ref())];
        let counts = &check.counts;
        for (name, help, n) in [
            (
                "db_race_audit_open",
                "Findings that are open and not waived.",
                counts.open,
            ),
            (
                "db_race_audit_new",
                "Of these, those that no run before has seen.",
                counts.new,
            ),
            (
                "db_race_audit_came_back",
                "Of these, those that had been fixed.",
                counts.came_back,
            ),
            (
                "db_race_audit_fixed",
                "Findings that were looked for and are gone.",
                counts.fixed,
            ),
            (
                "db_race_audit_waived",
                "Findings that somebody answers for.",
                counts.waived,
            ),
            (
                "db_race_audit_not_looked_at",
                "Findings that were open, and that nobody looked for.",
                counts.not_looked_at,
            ),
        ] {
            metrics.add(name, help, &labels, n as f64);
        }
        let since = check.oldest_open_since.map(|at| at.to_string());
        if let Some(since) = since.and_then(|at| seconds(&at)) {
            let help = "Since when the oldest finding is open that is not waived, in seconds since 1970.";
            metrics.add("db_race_audit_oldest_open_timestamp_seconds", help, &labels, since);
        }
    }
}

fn of_race(metrics: &mut Metrics, report: &Report, race: &Race) {
    let scenario = visible(&race.scenario);
    let of = |labels: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        let labels = [&[("scenario", scenario.as_ref())], labels].concat();
        labels
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect()
    };
    let mut add = |name, help, labels: &[(&'static str, &str)], value| {
        let labels = of(labels);
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        metrics.add(name, help, &labels, value);
    };
    // checks have metrics of their own
    for rule in report
        .verdict
        .rules
        .iter()
        .filter(|r| !r.rule.starts_with(&check_rule("")))
    {
        for (state, name) in STATES {
            let is = f64::from(u8::from(state == rule.state));
            let labels = [("rule", rule.rule.as_str()), ("state", name)];
            add("db_race_rule_state", "1 for how the rule came out.", &labels, is);
        }
    }
    for group in &race.group_results {
        for outcome in Outcome::ALL {
            let labels = [("group", group.group.as_str()), ("outcome", outcome.name())];
            let n = group.outcomes.get(outcome) as f64;
            add(
                "db_race_attempts",
                "Attempts over all rounds, by how they ended.",
                &labels,
                n,
            );
        }
        for (percent, name) in PERCENTILES {
            if let Some(time) = group.latency.figure(Figure::Percentile(percent)) {
                let labels = [("group", group.group.as_str()), ("percentile", name)];
                let help = "How long attempts took, the wait for a connection included.";
                add("db_race_attempt_latency_seconds", help, &labels, time.as_secs_f64());
            }
        }
        let on = [("group", group.group.as_str())];
        add(
            "db_race_attempts_per_second",
            "Attempts a second, while the rounds lasted.",
            &on,
            group.per_second,
        );
        add(
            "db_race_dropped_starts",
            "Starts that found no free session.",
            &on,
            group.dropped as f64,
        );
    }
    let sum = |of: fn(&super::RoundResult) -> u64| race.rounds.iter().map(of).sum::<u64>() as f64;
    add("db_race_rounds", "Rounds that were run.", &[], race.rounds.len() as f64);
    add(
        "db_race_deadlocks",
        "Deadlocks over all rounds.",
        &[],
        sum(|r| r.deadlocks),
    );
    add(
        "db_race_lock_waits",
        "Waits for locks seen over all rounds.",
        &[],
        sum(|r| r.lock_waits),
    );
    add(
        "db_race_pool_timeouts",
        "Attempts that got no connection in time.",
        &[],
        sum(|r| r.pool_timeouts),
    );
    add("db_race_retries", "Tries after the first one.", &[], sum(|r| r.retries));
}

/// Samples, gathered by metric: all of one must stand together.
struct Metrics {
    run: String,
    families: Vec<Family>,
}

struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
    seen: HashSet<String>,
}

impl Metrics {
    fn new(run: &str) -> Metrics {
        let run = run.to_string();
        let families = Vec::new();
        Metrics { run, families }
    }

    /// Of two samples with the same labels the first one counts: a file with both would be refused as a whole.
    fn add(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let at = match self.families.iter().position(|f| f.name == name) {
            Some(at) => at,
            None => {
                let (samples, seen) = (Vec::new(), HashSet::new());
                self.families.push(Family {
                    name,
                    help,
                    samples,
                    seen,
                });
                self.families.len() - 1
            }
        };
        let all = [&[("run", self.run.as_str())], labels].concat();
        let labels: Vec<String> = all
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = labels.join(",");
        let family = &mut self.families[at];
        if family.seen.insert(labels.clone()) {
            family.samples.push((labels, value));
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for Family {
            name, help, samples, ..
        } in &self.families
        {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
            for (labels, value) in samples {
                writeln!(out, "{name}{{{labels}}} {value}")?;
            }
        }
        writeln!(out, "# EOF")
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_no_series_comes_twice() {
        let mut metrics = Metrics::new("a\"b\\c\nd");
        metrics.add("x", "Help.", &[("l", "v")], 1.5);
        metrics.add("x", "Help.", &[("l", "v")], 2.0);
        let mut out = Vec::new();
        metrics.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# HELP x Help.\n# TYPE x gauge\nx{run=\"a\\\"b\\\\c\\nd\",l=\"v\"} 1.5\n# EOF\n"
        );
    }
}
