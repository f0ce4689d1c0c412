//! JUnit, for test reports of CI services. <https://llg.cubic.org/docs/junit/>
//!
//! A database, or a scenario, is a suite. Broken is `failure`, could not decide `error` (or what `--inconclusive` makes of it), skipped
//! `skipped`; what is only pending passes, and says so.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::case::{Case, cases};
use super::escape::visible;
use super::{Report, Style, write_terminal};
use crate::verdict::{State, Undecided};

/// Writes the report as JUnit XML.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut junit = quick_junit::Report::new(format!("db-race {}", report.command));
    junit.set_time(Duration::from_millis(report.duration_ms));
    let mut suites: Vec<TestSuite> = Vec::new();
    for case in cases(report) {
        let at = match suites.iter().position(|s| s.name.as_str() == case.suite) {
            Some(at) => at,
            None => {
                suites.push(suite(report, &case.suite));
                suites.len() - 1
            }
        };
        suites[at].add_test_case(test_case(&case));
    }
    for suite in &mut suites {
        let times = suite.test_cases.iter().filter_map(|case| case.time);
        suite.set_time(match report.race {
            Some(_) => Duration::from_millis(report.duration_ms),
            None => times.sum(),
        });
    }
    // the whole story, for those who look deeper
    let mut text = Vec::new();
    write_terminal(report, Style::default(), &mut text)?;
    if let Some(first) = suites.first_mut() {
        first.set_system_out_lossy(text);
    }
    junit.add_test_suites(suites);
    junit.serialize(out).map_err(io::Error::other)
}

fn suite(report: &Report, name: &str) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite
        .extra
        .insert("timestamp".into(), report.started_at.as_str().into());
    suite.add_property(Property::new("db-race", report.version));
    if let Some(race) = &report.race {
        suite.add_property(Property::new("seed", race.seed.to_string()));
    }
    suite
}

fn test_case(case: &Case<'_>) -> TestCase {
    let broken = |kind| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(match case.title {
            Some(title) => format!("{}: {}", visible(title), case.measured),
            None => case.measured.clone(),
        });
        status.set_type(match case.state {
            State::NoData => "could not decide",
            _ => case.severity(),
        });
        status.set_description(case.details.as_str());
        status
    };
    let status = match case.state {
        State::Held | State::Pending => TestCaseStatus::success(),
        State::Broken => broken(NonSuccessKind::Failure),
        State::NoData if matches!(case.doubt, Undecided::Fails | Undecided::Warns) => broken(NonSuccessKind::Failure),
        State::NoData if case.is_red() => broken(NonSuccessKind::Error),
        State::NoData | State::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(case.measured.as_str());
            status
        }
    };
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(case.suite.as_str());
    test.set_time(Duration::from_secs_f64(
        case.check.map_or(0.0, |c| c.duration_ms.max(0.0) / 1e3),
    ));
    if case.state == State::Pending {
        test.set_system_out(case.details.as_str());
    }
    if let Some(place) = case.place {
        test.extra.insert("file".into(), place.file.into());
        if let Some(line) = place.line {
            test.extra.insert("line".into(), line.to_string().as_str().into());
        }
    }
    let mut property = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            test.add_property(Property::new(name, value));
        }
    };
    if let Some(check) = case.check {
        property("title", Some(&check.title));
        property("severity", Some(case.severity()));
        property("owner", check.owner.as_deref());
        property("remedy", check.remedy.as_deref());
        property("tags", Some(&check.tags.join(",")));
    }
    test
}
