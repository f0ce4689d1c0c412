//! A report as a list of cases, for the forms that know tests only.
//!
//! A case is a check on a database, a rule of a race, or, where the run itself says less than it was asked to, the run.

use super::escape::visible;
use super::terminal::finding_text;
use super::{Race, Report, RoundResult};
use crate::verdict::{Judged, Judgement, State, Undecided, check_rule};
use crate::verify::{CheckResult, DatabaseResult, Decision};

/// One thing that was judged.
pub(super) struct Case<'a> {
    /// A check's id, a rule as the scenario has it, or `the run`; no two of a report are alike in their suite.
    pub(super) name: String,
    /// The database's name, or the scenario's.
    pub(super) suite: String,
    /// The invariant in a line, where it is a check.
    pub(super) title: Option<&'a str>,
    /// How it came out; broken as well when it was in the control.
    pub(super) state: State,
    /// Whether breaking it is only worth a look, and doesn't fail the run all the same.
    pub(super) warning: bool,
    /// What it makes of the run, where it could not be decided: flags may say.
    pub(super) doubt: Undecided,
    /// The figure it was judged by, or why there is none.
    pub(super) measured: String,
    /// What there is to see, in lines.
    pub(super) details: String,
    /// The check, where it found the most.
    pub(super) check: Option<&'a CheckResult>,
    /// The file and the line where it stands.
    pub(super) place: Option<Place<'a>>,
}

/// A place in a file that people write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place<'a> {
    /// As the user named it.
    pub(super) file: &'a str,
    /// From 1; none: the file as a whole.
    pub(super) line: Option<usize>,
    /// Whether it is inside the binary, and no file of the user's.
    pub(super) is_bundled: bool,
}

impl<'a> Place<'a> {
    fn of(name: &'a str, line: Option<usize>) -> Place<'a> {
        let bundled = name.strip_suffix(" (bundled)");
        Place {
            file: bundled.unwrap_or(name),
            line,
            is_bundled: bundled.is_some(),
        }
    }
}

impl Case<'_> {
    /// Whether it is why the exit code is not 0: a report is green when, and only when, that is 0.
    pub(super) fn is_red(&self) -> bool {
        self.state == State::Broken || self.state == State::NoData && self.doubt != Undecided::Passes
    }

    /// Whether there is something to say of it.
    pub(super) fn is_shown(&self) -> bool {
        matches!(self.state, State::Broken | State::NoData | State::Pending)
    }

    /// `error`, `warn`.
    pub(super) fn severity(&self) -> &'static str {
        if self.warning { "warn" } else { "error" }
    }

    /// The name with the title behind it.
    pub(super) fn heading(&self) -> String {
        match self.title.filter(|t| !t.is_empty()) {
            Some(title) => format!("{}: {}", self.name, visible(title)),
            None => self.name.clone(),
        }
    }
}

/// All cases, in the order in which they were judged, on the terms of the exit code.
pub(super) fn cases(report: &Report) -> Vec<Case<'_>> {
    let mut cases = match &report.race {
        Some(_) => of_race(report),
        None => of_checks(report),
    };
    cases.extend(of_run(report));
    for case in &mut cases {
        case.doubt = report.terms.doubt();
        case.warning &= !report.terms.strict;
    }
    // test reports tell cases apart by their names
    for i in 1..cases.len() {
        let (before, rest) = cases.split_at_mut(i);
        let case = &mut rest[0];
        let alike = |name: &str| before.iter().any(|b| b.name == *name && b.suite == case.suite);
        if alike(&case.name)
            && let Some(name) = (2..).map(|n| format!("{} #{n}", case.name)).find(|name| !alike(name))
        {
            case.name = name;
        }
    }
    cases
}

fn of_checks(report: &Report) -> Vec<Case<'_>> {
    let mut rules: Vec<&Judgement> = report.verdict.rules.iter().collect();
    let mut cases = Vec::new();
    for check in &report.checks {
        // of several databases the first is judged first
        let Some(at) = rules.iter().position(|r| r.rule == check_rule(&check.id)) else {
            continue;
        };
        let rule = rules.remove(at);
        cases.push(Case {
            suite: database(report, check),
            ..of_check(rule, check, "")
        });
    }
    cases.extend(rules.into_iter().map(|rule| of_rule(report, rule)));
    cases
}

fn of_race(report: &Report) -> Vec<Case<'_>> {
    let rules = report.verdict.rules.iter();
    let case = |rule| match report.race.as_ref().and_then(|race| worst_of(race, rule)) {
        Some((round, check)) => Case {
            suite: suite(report),
            measured: measured(report, rule),
            ..of_check(rule, check, &when(round))
        },
        None => of_rule(report, rule),
    };
    rules.map(case).collect()
}

fn worst_of<'a>(race: &'a Race, rule: &Judgement) -> Option<(&'a RoundResult, &'a CheckResult)> {
    worst_check(race, rule.rule.strip_prefix(&check_rule(""))?)
}

/// A check of a race, in the round in which it found the most.
pub(super) fn worst_check<'a>(race: &'a Race, id: &str) -> Option<(&'a RoundResult, &'a CheckResult)> {
    let rounds = race.rounds.iter().chain(&race.control);
    let all = rounds.flat_map(|r| r.checks.iter().map(move |c| (r, c)));
    let rank = |check: &CheckResult| (check.decision != Decision::Held, check.count);
    // of equals the last one is taken: the first round
    let same: Vec<_> = all.filter(|(_, c)| c.id == id).collect();
    same.into_iter().rev().max_by_key(|(_, c)| rank(c))
}

/// `, after round 3`
pub(super) fn when(round: &RoundResult) -> String {
    match round.round {
        0 => ", after the serial control".to_string(),
        n => format!(", after round {n}"),
    }
}

/// What made the run undecided beside its rules.
fn of_run(report: &Report) -> Option<Case<'_>> {
    let of_rule = |reason: &&String| {
        report
            .verdict
            .rules
            .iter()
            .any(|r| reason.starts_with(&format!("{}: ", r.rule)))
    };
    let mut doubts: Vec<&str> = report
        .verdict
        .reasons
        .iter()
        .filter(|r| !of_rule(r))
        .map(String::as_str)
        .collect();
    if report.verdict.outcome == Judged::Interrupted {
        doubts.push("interrupted: what is reported was seen until then");
    }
    (!doubts.is_empty()).then(|| Case {
        name: "the run".into(),
        suite: suite(report),
        title: None,
        state: State::NoData,
        warning: false,
        doubt: Undecided::default(),
        measured: visible(doubts[0].lines().next().unwrap_or_default()).into_owned(),
        details: doubts.join("\n"),
        check: None,
        place: report.race.as_ref().map(|race| Place::of(&race.file, None)),
    })
}

fn of_check<'a>(rule: &Judgement, check: &'a CheckResult, when: &str) -> Case<'a> {
    Case {
        name: visible(&check.id).into_owned(),
        suite: String::new(),
        title: Some(&check.title),
        state: state(rule),
        warning: rule.warning,
        doubt: Undecided::default(),
        measured: visible(&rule.measured).into_owned(),
        details: finding_text(check, when),
        check: Some(check),
        place: Some(Place::of(&check.file, Some(check.line.max(1)))),
    }
}

fn of_rule<'a>(report: &'a Report, rule: &'a Judgement) -> Case<'a> {
    let mut details = vec![format!("{}: {}", rule.rule, measured(report, rule))];
    let race = report.race.as_ref();
    if rule.rule.starts_with("deadlocks") && rule.state == State::Broken {
        let deadlocks = race.map(|r| r.deadlocks.as_slice()).unwrap_or_default();
        details.extend(deadlocks.iter().filter_map(|d| d.advice.clone()));
    }
    Case {
        name: visible(&rule.rule).into_owned(),
        suite: suite(report),
        title: None,
        state: state(rule),
        warning: rule.warning,
        doubt: Undecided::default(),
        measured: measured(report, rule),
        details: details.join("\n"),
        check: None,
        place: race.map(|race| Place::of(&race.file, rule.line)),
    }
}

fn state(rule: &Judgement) -> State {
    match rule.is_broken() {
        true => State::Broken,
        false => rule.state,
    }
}

/// The figure, in how many rounds, and what the control says.
fn measured(report: &Report, rule: &Judgement) -> String {
    let mut text = visible(&rule.measured).into_owned();
    if rule.broken_rounds > 1 {
        let rounds = report.race.as_ref().map_or(0, |r| r.rounds.len());
        text.push_str(&format!("; broken in {} of {rounds} rounds", rule.broken_rounds));
    }
    match (rule.control, &rule.control_measured) {
        (Some(State::Broken), Some(figure)) => text.push_str(&format!("; control broke too: {}", visible(figure))),
        (Some(_), Some(_)) if rule.state == State::Broken => text.push_str("; control held"),
        _ => {}
    }
    text
}

fn suite(report: &Report) -> String {
    match (&report.race, report.databases.first()) {
        (Some(race), _) => visible(&race.scenario).into_owned(),
        (None, Some(database)) => database_name(database),
        (None, None) => report.command.to_string(),
    }
}

/// What a database is called: as the user does, or by its address without the user, since who looked doesn't matter.
pub(super) fn database_name(database: &DatabaseResult) -> String {
    let name = match (database.name == database.address, database.address.split_once('@')) {
        (true, Some((_, place))) => place,
        _ => &database.name,
    };
    visible(name).into_owned()
}

/// What a check's database is called.
pub(super) fn database(report: &Report, check: &CheckResult) -> String {
    match report.databases.get(check.database) {
        Some(database) => database_name(database),
        None => suite(report),
    }
}
