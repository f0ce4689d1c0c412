//! TOML -> [`Plan`].

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::rule::Side;
use super::{
    Draw, Gate, Group, Keys, Located, Overrides, Param, Pick, Plan, Pool, Refusal, Rule, ScenarioError, Schedule,
    Statement, Step,
};
use crate::bundled;
use crate::source::{Diagnostic, FileError, Source, quoted};
use crate::system::System;
use crate::verify;

const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const POOL_WAIT: Duration = Duration::from_secs(30);
/// What a run may hold in memory and a server can serve.
pub(super) const SESSIONS_MAX: u32 = 10_000;
const ATTEMPTS_MAX: u32 = 1_000_000;
const ROUNDS_MAX: u32 = 10_000;
/// Names that every step can use.
const BUILT_IN: [&str; 3] = ["session", "iteration", "round"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    #[serde(default)]
    about: String,
    system: Option<Spanned<String>>,
    rounds: Option<Spanned<u32>>,
    setup: Option<Spanned<String>>,
    #[serde(default)]
    checks: Vec<Spanned<String>>,
    keys: Option<FileKeys>,
    #[serde(default)]
    params: BTreeMap<String, Spanned<FileParam>>,
    sessions: Spanned<Vec<FileGroup>>,
    #[serde(default)]
    pool: FilePool,
    #[serde(default)]
    gate_tables: Vec<Spanned<String>>,
    #[serde(default)]
    expect: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    sql: Spanned<String>,
    pick: Option<Pick>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileParam {
    int: Option<(i64, i64)>,
    choice: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGroup {
    name: Spanned<String>,
    sessions: Spanned<u32>,
    schedule: Option<Spanned<FileSchedule>>,
    gate: Option<Gate>,
    steps: Spanned<Vec<FileStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSchedule {
    kind: FileScheduleKind,
    iterations: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileScheduleKind {
    PerSession,
    Shared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStep {
    name: Spanned<String>,
    sql: Spanned<String>,
    #[serde(default)]
    reject: Vec<Spanned<FileRefusal>>,
    timeout: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRefusal {
    sqlstate: Option<String>,
    constraint: Option<String>,
    message: Option<String>,
    row: Option<BTreeMap<String, toml::Value>>,
    no_row: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePool {
    size: Option<Spanned<u32>>,
    wait: Option<Spanned<String>>,
}

/// Loads a scenario by path or bundled name, checks it, and applies the overrides.
///
/// # Errors
/// [`ScenarioError`] that shows the place in the file, or the flag, that is wrong.
pub fn load(name: &str, overrides: &Overrides) -> Result<Plan, ScenarioError> {
    let source = bundled::scenario(name)?;
    let file: File = source.toml(&source.text)?;
    // names in a scenario on disk are relative to it
    let path = Path::new(&*source.name);
    let base = path.parent().filter(|_| path.is_file()).unwrap_or(Path::new(""));
    let stem = name.rsplit('/').next().unwrap_or(name);

    let mut system = None;
    if let Some(name) = &file.system {
        let found = System::find(name.get_ref(), base);
        system = Some(found.map_err(|e| point(&source, name.span(), e))?);
    }
    let mut checks = Vec::new();
    for name in &file.checks {
        let found = verify::find(name.get_ref(), base);
        checks.extend(found.map_err(|e| point(&source, name.span(), e))?);
    }
    let keys = file.keys.map(|keys| Keys {
        sql: located(keys.sql),
        pick: keys.pick.unwrap_or(Pick::RoundRobin),
    });
    let params = params(&source, file.params)?;
    let groups = groups(&source, file.sessions)?;
    let rules = rules(&source, file.expect, &groups)?;
    let rounds = file.rounds.map_or(Ok(1), |r| bounded(&source, &r, 1..=ROUNDS_MAX))?;
    let size = file
        .pool
        .size
        .map(|s| bounded(&source, &s, 1..=SESSIONS_MAX))
        .transpose()?;
    let mut plan = Plan {
        name: stem.trim_end_matches(".toml").to_string(),
        title: file.title,
        about: file.about.trim().to_string(),
        system,
        bug: None,
        rounds,
        setup: file.setup.map(located),
        keys,
        params,
        groups,
        pool: Pool {
            size,
            wait: duration(&source, file.pool.wait, POOL_WAIT)?,
        },
        gate_tables: file.gate_tables.into_iter().map(located).collect(),
        rules,
        checks,
        seed: 0,
        control: true,
        source,
    };
    check_names(&plan)?;
    overrides.apply(&mut plan)?;
    Ok(plan)
}

fn located(text: Spanned<String>) -> Located {
    Located {
        span: text.span(),
        text: text.into_inner(),
    }
}

/// A missing file named in this one: the error points at the name.
fn point(source: &Source, span: Range<usize>, error: FileError) -> FileError {
    match error {
        FileError::Read { path, why } => source.error(span, format!("cannot read {path}: {why}")).into(),
        content => content,
    }
}

fn bounded(source: &Source, value: &Spanned<u32>, range: std::ops::RangeInclusive<u32>) -> Result<u32, Diagnostic> {
    let n = *value.get_ref();
    if range.contains(&n) {
        return Ok(n);
    }
    Err(source
        .error(value.span(), format!("{n} is out of range"))
        .label(format!("expected {} to {}", range.start(), range.end())))
}

fn duration(source: &Source, text: Option<Spanned<String>>, default: Duration) -> Result<Duration, Diagnostic> {
    let Some(text) = text else { return Ok(default) };
    match humantime::parse_duration(text.get_ref()) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(source
            .error(text.span(), format!("`{}` is no length of time", text.get_ref()))
            .label("expected like `500ms`, `2s` or `1m 30s`, more than zero")),
    }
}

fn params(source: &Source, given: BTreeMap<String, Spanned<FileParam>>) -> Result<Vec<Param>, Diagnostic> {
    let mut params = Vec::new();
    for (name, param) in given {
        let span = param.span();
        let expected = "expected `{ int = [1, 7] }` or `{ choice = [\"a\", \"b\"] }`";
        let draw = match (param.get_ref().int, param.into_inner().choice) {
            (Some((low, high)), None) if low <= high => Draw::Int(low, high),
            (None, Some(choice)) if !choice.is_empty() => Draw::Choice(choice),
            _ => {
                let message = format!("parameter `{name}` has nothing to be drawn from");
                return Err(source.error(span, message).label(expected));
            }
        };
        params.push(Param { name, draw });
    }
    Ok(params)
}

fn groups(source: &Source, given: Spanned<Vec<FileGroup>>) -> Result<Vec<Group>, Diagnostic> {
    if given.get_ref().is_empty() {
        return Err(source.error(given.span(), "a scenario needs a `[[sessions]]` group"));
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut step_names: HashSet<String> = HashSet::new();
    for group in given.into_inner() {
        let sessions = bounded(source, &group.sessions, 1..=SESSIONS_MAX)?;
        if groups.iter().any(|g| g.name == *group.name.get_ref()) {
            let message = format!("two groups are called `{}`", group.name.get_ref());
            return Err(source.error(group.name.span(), message));
        }
        let schedule = schedule(source, group.schedule, sessions)?;
        if group.steps.get_ref().is_empty() {
            return Err(source
                .error(group.steps.span(), "a group needs a step")
                .label("expected like `{ name = \"hold\", sql = \"select ...\" }`"));
        }
        let mut steps = Vec::new();
        for step in group.steps.into_inner() {
            let name = step.name.get_ref();
            if name == "attempts" || !step_names.insert(name.clone()) {
                return Err(source
                    .error(step.name.span(), format!("the name `{name}` is taken"))
                    .label("expected a name of its own, so that rules can tell the steps apart"));
            }
            steps.push(self::step(source, step)?);
        }
        groups.push(Group {
            name: group.name.into_inner(),
            sessions,
            schedule,
            gate: group.gate.unwrap_or(Gate::Commit),
            steps,
        });
    }
    Ok(groups)
}

fn schedule(source: &Source, given: Option<Spanned<FileSchedule>>, sessions: u32) -> Result<Schedule, Diagnostic> {
    let Some(given) = given else {
        return Ok(Schedule::PerSession { iterations: 1 });
    };
    let span = given.span();
    let given = given.into_inner();
    let schedule = match (given.kind, given.iterations) {
        (FileScheduleKind::PerSession, n) => Schedule::PerSession {
            iterations: n.unwrap_or(1),
        },
        (FileScheduleKind::Shared, Some(n)) => Schedule::Shared { iterations: n },
        (FileScheduleKind::Shared, None) => {
            return Err(source
                .error(span, "a shared schedule needs `iterations`")
                .label("expected `iterations`: the attempts of all sessions together"));
        }
    };
    match schedule.attempts(sessions) {
        1..=ATTEMPTS_MAX => Ok(schedule),
        n => Err(source
            .error(span, format!("{n} attempts in a round"))
            .label(format!("expected 1 to {ATTEMPTS_MAX}"))),
    }
}

fn step(source: &Source, step: FileStep) -> Result<Step, Diagnostic> {
    let at = located(step.sql);
    if at.text.trim().is_empty() {
        return Err(source.error(at.span, "a step needs SQL"));
    }
    let mut reject = Vec::new();
    for refusal in step.reject {
        let span = refusal.span();
        let wrong = || {
            source.error(span.clone(), "this refusal does not say what to expect").label(
                "expected an error's `sqlstate` (five of 0-9 A-Z), `constraint` and `message`, or `row = { column = value }`, or `no_row = true`",
            )
        };
        reject.push(self::refusal(refusal.into_inner()).ok_or_else(wrong)?);
    }
    Ok(Step {
        name: step.name.into_inner(),
        statement: Statement::parse(&at.text),
        at,
        reject,
        timeout: duration(source, step.timeout, STEP_TIMEOUT)?,
    })
}

fn refusal(given: FileRefusal) -> Option<Refusal> {
    let FileRefusal {
        sqlstate,
        constraint,
        message,
        row,
        no_row,
    } = given;
    let code = |s: &String| s.len() == 5 && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_error = sqlstate.is_some() || constraint.is_some() || message.is_some();
    match (is_error, row, no_row) {
        (true, None, None) if sqlstate.as_ref().is_none_or(code) => Some(Refusal::Error {
            sqlstate,
            constraint,
            message,
        }),
        (false, Some(row), None) if !row.is_empty() => {
            let pair = |(column, value)| Some((column, as_text(&value)?));
            row.into_iter().map(pair).collect::<Option<_>>().map(Refusal::Row)
        }
        (false, None, Some(true)) => Some(Refusal::NoRow),
        _ => None,
    }
}

/// A value as PostgreSQL prints it.
fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(if *truth { "t" } else { "f" }.into()),
        _ => None,
    }
}

fn rules(
    source: &Source,
    given: BTreeMap<Spanned<String>, Spanned<String>>,
    groups: &[Group],
) -> Result<Vec<Rule>, Diagnostic> {
    let steps: Vec<&str> = groups.iter().flat_map(|g| &g.steps).map(|s| s.name.as_str()).collect();
    let mut given: Vec<_> = given.into_iter().collect();
    given.sort_by_key(|(measure, _)| measure.span().start);
    let mut rules = Vec::new();
    for (measure, must) in given {
        let rule = Rule::parse(measure.get_ref(), must.get_ref(), &steps).map_err(|wrong| {
            let span = match wrong.side {
                Side::Measure => measure.span(),
                Side::Must => must.span(),
            };
            let diagnostic = source.error(span, wrong.message).label(wrong.expected);
            match wrong.help {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            }
        })?;
        rules.push(rule);
    }
    for rule in Rule::of_every_run() {
        if !rules.iter().any(|r| r.measure == rule.measure) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// Without a query that may return the name, a parameter that nobody provides is known now.
fn check_names(plan: &Plan) -> Result<(), Diagnostic> {
    if plan.keys.is_some() {
        return Ok(());
    }
    for group in &plan.groups {
        let Some(first) = group.steps.first() else { continue };
        for name in &first.statement.names {
            let known: Vec<&str> = BUILT_IN
                .into_iter()
                .chain(plan.params.iter().map(|p| p.name.as_str()))
                .collect();
            if !known.contains(&name.as_str()) {
                return Err(unknown_parameter(plan, first, name, &known));
            }
        }
    }
    Ok(())
}

/// The error for a parameter that nobody provides.
pub(crate) fn unknown_parameter(plan: &Plan, step: &Step, name: &str, known: &[&str]) -> Diagnostic {
    let place = step.statement.first_use(name).unwrap_or(0..0);
    step.at
        .error(&plan.source, place, format!("nothing provides the parameter `:{name}`"))
        .label(format!("known here: {}", quoted(known)))
        .suggest(name, known.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "t"
[[sessions]]
name = "a"
sessions = 2
steps = [{ name = "s", sql = "select :session" }]
[expect]
"s.accepted" = "== 2"
"#;

    fn load_text(text: &str) -> Result<Plan, ScenarioError> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(file.path().to_str().unwrap(), &Overrides::default())
    }

    #[test]
    fn bundled_scenarios_are_right() {
        for name in bundled::scenario_names() {
            if let Err(error) = load(&name, &Overrides::default()) {
                panic!("{name}: {error}");
            }
        }
    }

    #[test]
    fn the_documented_scenario_is_right() {
        let page = include_str!("../../docs/scenarios.md");
        let example = page.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap();
        let plan = load_text(example).unwrap();
        assert_eq!((plan.rounds, plan.sessions(), plan.pool_size()), (5, 50, 20));
    }

    #[test]
    fn the_least_scenario_gets_sensible_defaults() {
        let plan = load_text(GOOD).unwrap();
        assert_eq!(plan.rounds, 1);
        assert_eq!(plan.pool_size(), 2);
        assert_eq!(plan.groups[0].gate, Gate::Commit);
        assert_eq!(plan.groups[0].schedule, Schedule::PerSession { iterations: 1 });
        assert_eq!(plan.rules[1..], Rule::of_every_run());
    }

    #[test]
    fn wrong_files_show_place_and_expectation() {
        for (from, to, line, parts) in [
            (
                "title",
                "titel",
                2,
                &["unknown field `titel`", "did you mean `title`?"][..],
            ),
            ("sessions = 2", "sessions = 'x'", 5, &["expected u32"]),
            ("sessions = 2", "sessions = 0", 5, &["out of range", "1 to"]),
            (
                "sessions = 2",
                "sessions = 2\ngate = \"writ\"",
                6,
                &["unknown variant `writ`", "did you mean `write`?"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nschedule = { kind = \"shared\" }",
                6,
                &["needs `iterations`"],
            ),
            ("sessions = 2", "sessions = 2 2", 5, &["sessions = 2 2"]),
            (
                ":session\"",
                ":sesion\"",
                6,
                &["nothing provides the parameter `:sesion`", "did you mean `session`?"],
            ),
            ("}]", ", reject = [{ sqlstate = 'x' }] }]", 6, &["refusal"]),
            ("}]", ", timeout = '2' }]", 6, &["no length of time", "500ms"]),
            (
                "s.accepted",
                "s.acepted",
                8,
                &["unknown measure", "did you mean `s.accepted`?"],
            ),
            ("== 2", "= 2", 8, &["no rule for a count", "== 1 per key"]),
        ] {
            let shown = load_text(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(shown.contains(&format!(".toml:{line}:")), "{shown}");
            for part in parts {
                assert!(shown.contains(part), "{part} is not in\n{shown}");
            }
        }
    }
}
