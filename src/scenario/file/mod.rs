//! TOML -> [`Plan`].

mod group;
mod rules;
mod schedule;
mod step;
mod value;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use self::group::{FileGroup, groups};
use self::rules::rules;
use self::value::{bounded, duration_or};
use super::{Draw, Keys, Located, Overrides, Param, Pick, Plan, Pool, Recycling, ScenarioError, Step};
use crate::bundled;
use crate::source::{Diagnostic, FileError, Source, quoted};
use crate::system::System;
use crate::verify;

const POOL_WAIT: Duration = Duration::from_secs(30);
/// What a run may hold in memory and a server can serve.
pub(super) const SESSIONS_MAX: u32 = 10_000;
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
    pools: BTreeMap<String, FilePool>,
    #[serde(default)]
    gate_tables: Vec<Spanned<String>>,
    #[serde(default)]
    expect: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePool {
    size: Option<Spanned<u32>>,
    wait: Option<Spanned<String>>,
    create: Option<Spanned<String>>,
    open: Option<FileOpen>,
    #[serde(default)]
    recycling: Recycling,
}

/// When a pool's connections are made.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum FileOpen {
    AtStart,
    OnDemand,
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
    let mut pools = vec![pool(&source, "pool".into(), file.pool)?];
    for (name, given) in file.pools {
        pools.push(pool(&source, name, given)?);
    }
    let groups = groups(&source, file.sessions, &pools)?;
    let rules = rules(&source, file.expect, &groups)?;
    let rounds = file.rounds.map_or(Ok(1), |r| bounded(&source, &r, 1..=ROUNDS_MAX))?;
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
        pools,
        gate_tables: file.gate_tables.into_iter().map(located).collect(),
        rules,
        checks,
        seed: 0,
        control: true,
        watch: true,
        source,
    };
    check_names(&plan)?;
    overrides.apply(&mut plan)?;
    Ok(plan)
}

pub(super) fn located(text: Spanned<String>) -> Located {
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

fn pool(source: &Source, name: String, given: FilePool) -> Result<Pool, Diagnostic> {
    let size = given.size.as_ref();
    let wait = duration_or(source, &given.wait, POOL_WAIT)?;
    Ok(Pool {
        name,
        size: size.map(|s| bounded(source, s, 1..=SESSIONS_MAX)).transpose()?,
        wait,
        create: duration_or(source, &given.create, wait)?,
        on_demand: given.open == Some(FileOpen::OnDemand),
        recycling: given.recycling,
    })
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
    use crate::scenario::{Gate, Rule};

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
        let page = include_str!("../../../docs/scenarios.md");
        let example = page.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap();
        let plan = load_text(example).unwrap();
        assert_eq!((plan.rounds, plan.sessions(), plan.pool_size(0)), (5, 50, 20));
    }

    #[test]
    fn the_least_scenario_gets_sensible_defaults() {
        let plan = load_text(GOOD).unwrap();
        assert_eq!(plan.rounds, 1);
        assert_eq!(plan.pool_size(0), 2);
        assert_eq!(plan.groups[0].gate, Gate::Commit);
        assert_eq!(plan.groups[0].schedule.attempts(2), Some(2));
        assert_eq!(plan.rules[1..], Rule::of_every_run(false));
    }

    #[test]
    fn a_group_may_say_all_that_there_is_to_say() {
        let text = GOOD.replace(
            "sessions = 2",
            r#"
            schedule = { kind = "ramping", start = 0, ramp_down = "1s", stages = [{ duration = "2s", target = 7 }] }
            start = "3s"
            grace = "4s"
            think = "5ms..6ms"
            hold = true
            transaction = { isolation = "repeatable-read", read_only = true }
            settings = { lock_timeout = "1500ms" }
            timeout = "7s"
            retry = { times = 5, budget = "8s" }
            pool = "small"
            leak = ["in_doubt"]
            settle = "select from t where id = :session""#,
        );
        let plan = load_text(&format!("{text}\n[pools.small]\nsize = 3\nopen = \"on-demand\"\n")).unwrap();
        let group = &plan.groups[0];
        assert_eq!(
            (group.sessions, group.schedule.name(), group.gate),
            (7, "ramping", Gate::None)
        );
        assert_eq!((group.start.as_secs(), group.grace.as_secs()), (3, 4));
        assert_eq!((group.think.from.as_millis(), group.think.to.as_millis()), (5, 6));
        let begin = group.transaction.unwrap().begin();
        assert_eq!(begin, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        assert_eq!(group.settings, [("lock_timeout".to_string(), "1500ms".to_string())]);
        let retry = group.retry.as_ref().unwrap();
        assert_eq!((retry.times, retry.on.len(), retry.backoff.as_millis()), (5, 2, 10));
        assert_eq!((group.pool, plan.pool_size(1), plan.pools[1].on_demand), (1, 3, true));
        assert!(group.holds && group.settle.is_some() && group.leak.len() == 1);
        assert_eq!(plan.rules[1..], Rule::of_every_run(true));
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
            ("sessions = 2", "", 4, &["needs `sessions`"]),
            (
                "sessions = 2",
                "sessions = 2\nschedule = { kind = \"constant\", duration = \"1s\", iterations = 3 }",
                6,
                &["no use for `iterations`", "expected `duration`"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nschedule = { kind = \"constant-rate\", rate = \"150\", duration = \"1s\" }",
                6,
                &["`150` is no rate", "150/s"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nschedule = { kind = \"ramping\", stages = [] }",
                6,
                &["needs `stages`"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nschedule = { kind = \"ramping\", stages = [{ duration = \"1s\", target = 3 }] }",
                6,
                &["rise to 3 sessions", "leave `sessions` out"],
            ),
            (
                "sessions = 2",
                "sessions = 2\ngate = \"write\"\nstart = \"1s\"",
                6,
                &["a gate lets all sessions go together"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nsettings = { lock_timout = \"1s\" }",
                6,
                &["`lock_timout` can't be set", "did you mean `lock_timeout`?"],
            ),
            (
                "sessions = 2",
                "sessions = 2\ntransaction = { isolation = \"snapshot\" }",
                6,
                &["snapshot", "serializable"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nretry = { on = [\"4000\"] }",
                6,
                &["`4000` is no SQLSTATE"],
            ),
            (
                "sessions = 2",
                "sessions = 2\npool = \"pol\"",
                6,
                &["no pool", "did you mean `pool`?"],
            ),
            (
                "sessions = 2",
                "sessions = 2\nthink = \"soon\"",
                6,
                &["`soon` is no pause", "50ms..200ms"],
            ),
            (
                "select :session",
                "commit",
                6,
                &["`commit` can't be a step", "transaction = true"],
            ),
            (
                "\"== 2\"",
                "{ must = \"== 2\", aborts = true }",
                8,
                &["unknown field `aborts`", "grace"],
            ),
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
