//! `[[sessions]]`: TOML -> [`Group`].

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::file::{SESSIONS_MAX, located};
use super::statement::leading_words;
use super::value::{bounded, duration, duration_or, duration_or_zero, pause, rate};
use super::{Gate, Group, Isolation, Pool, Ramp, Refusal, Retry, Schedule, Stage, Statement, Step, Transaction};
use crate::outcome::Outcome;
use crate::source::{Diagnostic, Source, quoted};

const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// k6's `maxDuration`, `gracefulStop` and `gracefulRampDown`.
const COUNTED_MAX: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const RETRIES: u32 = 3;
const ATTEMPTS_MAX: u32 = 1_000_000;
/// Names that mean something else in rules.
const TAKEN: [&str; 3] = ["attempts", "pool", "settled"];
/// Settings that a group may set: those of the client's own connection that limit how long it waits.
const SETTINGS: [&str; 3] = [
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileGroup {
    name: Spanned<String>,
    sessions: Option<Spanned<u32>>,
    schedule: Option<Spanned<FileSchedule>>,
    start: Option<Spanned<String>>,
    grace: Option<Spanned<String>>,
    think: Option<Spanned<String>>,
    #[serde(default)]
    hold: bool,
    gate: Option<Spanned<Gate>>,
    transaction: Option<Spanned<toml::Value>>,
    #[serde(default)]
    settings: BTreeMap<Spanned<String>, Spanned<String>>,
    timeout: Option<Spanned<String>>,
    retry: Option<FileRetry>,
    pool: Option<Spanned<String>>,
    #[serde(default)]
    leak: Vec<Outcome>,
    settle: Option<Spanned<String>>,
    steps: Spanned<Vec<FileStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSchedule {
    kind: Kind,
    iterations: Option<u32>,
    duration: Option<Spanned<String>>,
    start: Option<Spanned<toml::Value>>,
    rate: Option<Spanned<String>>,
    stages: Option<Vec<FileStage>>,
    ramp_down: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    PerSession,
    Shared,
    Constant,
    Ramping,
    ConstantRate,
    RampingRate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStage {
    duration: Spanned<String>,
    target: Spanned<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTransaction {
    isolation: Option<Isolation>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    deferrable: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRetry {
    on: Option<Spanned<Vec<String>>>,
    times: Option<u32>,
    backoff: Option<Spanned<String>>,
    backoff_max: Option<Spanned<String>>,
    budget: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStep {
    name: Spanned<String>,
    sql: Spanned<String>,
    #[serde(default)]
    reject: Vec<Spanned<FileRefusal>>,
    timeout: Option<Spanned<String>>,
    pause: Option<Spanned<String>>,
    connection: Option<Which>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Which {
    First,
    Second,
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

pub(super) fn groups(
    source: &Source,
    given: Spanned<Vec<FileGroup>>,
    pools: &[Pool],
) -> Result<Vec<Group>, Diagnostic> {
    if given.get_ref().is_empty() {
        return Err(source.error(given.span(), "a scenario needs a `[[sessions]]` group"));
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut names: HashSet<String> = TAKEN.map(String::from).into();
    for group in given.into_inner() {
        let name = group.name.clone();
        let group = self::group(source, group, pools)?;
        // a group may be called like its own step: both mean the same attempts when it is the only one
        let own = group.steps.iter().map(|s| &s.name);
        let taken = names.contains(&group.name);
        if taken {
            let message = format!("the name `{}` is taken", group.name);
            return Err(source
                .error(name.span(), message)
                .label("expected a name of its own, so that rules can tell groups and steps apart"));
        }
        names.extend(own.cloned());
        names.insert(group.name.clone());
        groups.push(group);
    }
    let mut steps: HashSet<&str> = TAKEN.into();
    for group in &groups {
        for step in &group.steps {
            let of_another = groups.iter().any(|g| g.name == step.name && g.name != group.name);
            if of_another || !steps.insert(&step.name) {
                let message = format!("the name `{}` is taken", step.name);
                return Err(source
                    .error(step.at.span.clone(), message)
                    .label("expected a step's name of its own, so that rules can tell the steps apart"));
            }
        }
    }
    Ok(groups)
}

fn group(source: &Source, group: FileGroup, pools: &[Pool]) -> Result<Group, Diagnostic> {
    let (schedule, sessions) = schedule_and_sessions(source, &group)?;
    let counted = schedule.attempts(sessions).is_some();
    let start = duration_or_zero(source, &group.start)?;
    let gate = match &group.gate {
        Some(gate) if *gate.get_ref() != Gate::None && !(counted && start.is_zero()) => {
            return Err(source
                .error(
                    gate.span(),
                    "a gate lets all sessions go together, and this group's start at their own times",
                )
                .label("expected `none`, or a `per-session` or `shared` schedule without `start`"));
        }
        Some(gate) => *gate.get_ref(),
        None if counted && start.is_zero() => Gate::Commit,
        None => Gate::None,
    };
    if group.steps.get_ref().is_empty() {
        return Err(source
            .error(group.steps.span(), "a group needs a step")
            .label("expected like `{ name = \"hold\", sql = \"select ...\" }`"));
    }
    let mut steps = Vec::new();
    for step in group.steps.into_inner() {
        steps.push(self::step(source, step)?);
    }
    let pool = match &group.pool {
        None => 0,
        Some(name) => {
            let names: Vec<&str> = pools.iter().map(|p| p.name.as_str()).collect();
            let found = pools.iter().position(|p| p.name == *name.get_ref());
            found.ok_or_else(|| {
                let message = format!("no pool is called `{}`", name.get_ref());
                source
                    .error(name.span(), message)
                    .label(format!("expected one of {}", quoted(&names)))
                    .suggest(name.get_ref(), names)
            })?
        }
    };
    let mut settings = Vec::new();
    for (name, value) in group.settings {
        if !SETTINGS.contains(&name.get_ref().as_str()) {
            let message = format!("`{}` can't be set for a group", name.get_ref());
            return Err(source
                .error(name.span(), message)
                .label(format!("expected one of {}", quoted(&SETTINGS)))
                .suggest(name.get_ref(), SETTINGS));
        }
        let limit = duration(source, &value)?;
        settings.push((name.into_inner(), format!("{}ms", limit.as_millis().max(1))));
    }
    Ok(Group {
        name: group.name.into_inner(),
        sessions,
        schedule,
        start,
        grace: match &group.grace {
            None => GRACE,
            given => duration_or_zero(source, given)?,
        },
        think: pause(source, &group.think)?,
        holds: group.hold,
        gate,
        transaction: transaction(source, group.transaction)?,
        settings,
        timeout: group.timeout.map(|t| duration(source, &t)).transpose()?,
        retry: group.retry.map(|r| retry(source, r)).transpose()?,
        pool,
        leak: group.leak,
        settle: group.settle.map(|sql| settle(source, sql)).transpose()?,
        steps,
    })
}

fn schedule_and_sessions(source: &Source, group: &FileGroup) -> Result<(Schedule, u32), Diagnostic> {
    let given = group
        .sessions
        .as_ref()
        .map(|n| bounded(source, n, 1..=SESSIONS_MAX))
        .transpose()?;
    let needed = || {
        given.ok_or_else(|| {
            source
                .error(
                    group.name.span(),
                    format!("the group `{}` needs `sessions`", group.name.get_ref()),
                )
                .label("expected like `sessions = 50`")
        })
    };
    let Some(file) = &group.schedule else {
        let schedule = Schedule::PerSession {
            iterations: 1,
            max: COUNTED_MAX,
        };
        return Ok((schedule, needed()?));
    };
    let schedule = schedule(source, file)?;
    let sessions = match (&schedule, given) {
        (Schedule::Ramping { ramp, .. }, None) => ramp.peak().ceil() as u32,
        (Schedule::Ramping { ramp, .. }, Some(n)) if f64::from(n) < ramp.peak() => {
            return Err(source
                .error(
                    file.span(),
                    format!("the stages rise to {} sessions, and the group has {n}", ramp.peak()),
                )
                .label("leave `sessions` out: the stages say how many"));
        }
        (_, _) => needed()?,
    };
    if let Some(n) = schedule.attempts(sessions).filter(|n| !(1..=ATTEMPTS_MAX).contains(n)) {
        return Err(source
            .error(file.span(), format!("{n} attempts in a round"))
            .label(format!("expected 1 to {ATTEMPTS_MAX}")));
    }
    Ok((schedule, sessions))
}

fn schedule(source: &Source, given: &Spanned<FileSchedule>) -> Result<Schedule, Diagnostic> {
    let file = given.get_ref();
    let wrong = |message: &str, label: &str| source.error(given.span(), message).label(label);
    // what a kind has no use for is a misunderstanding
    let uses: &[&str] = match file.kind {
        Kind::PerSession | Kind::Shared => &["iterations", "duration"],
        Kind::Constant => &["duration"],
        Kind::Ramping => &["start", "stages", "ramp_down"],
        Kind::ConstantRate => &["rate", "duration"],
        Kind::RampingRate => &["start", "stages"],
    };
    let has = [
        ("iterations", file.iterations.is_some()),
        ("duration", file.duration.is_some()),
        ("start", file.start.is_some()),
        ("rate", file.rate.is_some()),
        ("stages", file.stages.is_some()),
        ("ramp_down", file.ramp_down.is_some()),
    ];
    if let Some((extra, _)) = has.iter().find(|(name, has)| *has && !uses.contains(name)) {
        let message = format!("this schedule has no use for `{extra}`");
        return Err(wrong(&message, &format!("expected {}", quoted(uses))));
    }
    let ramp = |of: &dyn Fn(&Spanned<toml::Value>) -> Result<f64, Diagnostic>, default: f64| {
        let stages = file.stages.as_deref().filter(|s| !s.is_empty());
        let stages = stages.ok_or_else(|| {
            wrong(
                "this schedule needs `stages`",
                "expected like `stages = [{ duration = \"10s\", target = 50 }]`",
            )
        })?;
        let stage = |stage: &FileStage| {
            Ok(Stage {
                duration: duration_or_zero(source, &Some(stage.duration.clone()))?,
                target: of(&stage.target)?,
            })
        };
        let ramp = Ramp {
            start: file.start.as_ref().map_or(Ok(default), of)?,
            stages: stages.iter().map(stage).collect::<Result<_, Diagnostic>>()?,
        };
        if ramp.duration().is_zero() || ramp.peak() <= 0.0 {
            return Err(wrong(
                "these stages start nothing",
                "expected some time, and a target above 0",
            ));
        }
        Ok(ramp)
    };
    let timed = || {
        let text = file.duration.as_ref();
        duration(
            source,
            text.ok_or_else(|| wrong("this schedule needs `duration`", "expected like `duration = \"10s\"`"))?,
        )
    };
    Ok(match file.kind {
        Kind::PerSession => Schedule::PerSession {
            iterations: file.iterations.unwrap_or(1),
            max: duration_or(source, &file.duration, COUNTED_MAX)?,
        },
        Kind::Shared => Schedule::Shared {
            iterations: file.iterations.ok_or_else(|| {
                wrong(
                    "a shared schedule needs `iterations`",
                    "expected `iterations`: the attempts of all sessions together",
                )
            })?,
            max: duration_or(source, &file.duration, COUNTED_MAX)?,
        },
        Kind::Constant => Schedule::Constant { duration: timed()? },
        Kind::Ramping => Schedule::Ramping {
            ramp: ramp(&|value| count(source, value), 1.0)?,
            ramp_down: match &file.ramp_down {
                None => GRACE,
                given => duration_or_zero(source, given)?,
            },
        },
        Kind::ConstantRate => {
            let text = file.rate.as_ref();
            let text = text.ok_or_else(|| wrong("this schedule needs `rate`", "expected like `rate = \"150/s\"`"))?;
            let rate = rate(source, text)?;
            if rate <= 0.0 {
                return Err(source.error(text.span(), "this rate starts nothing"));
            }
            Schedule::Rate {
                ramp: Ramp::level_for(rate, timed()?),
            }
        }
        Kind::RampingRate => Schedule::Rate {
            ramp: ramp(&|value| rate_value(source, value), 0.0)?,
        },
    })
}

/// A number of sessions.
fn count(source: &Source, value: &Spanned<toml::Value>) -> Result<f64, Diagnostic> {
    match value.get_ref().as_integer() {
        Some(n) if (0..=i64::from(SESSIONS_MAX)).contains(&n) => Ok(n as f64),
        _ => Err(source
            .error(value.span(), "this is no number of sessions")
            .label(format!("expected 0 to {SESSIONS_MAX}"))),
    }
}

fn rate_value(source: &Source, value: &Spanned<toml::Value>) -> Result<f64, Diagnostic> {
    let text = value.get_ref().as_str().unwrap_or("a number").to_string();
    rate(source, &Spanned::new(value.span(), text))
}

fn transaction(source: &Source, given: Option<Spanned<toml::Value>>) -> Result<Option<Transaction>, Diagnostic> {
    let Some(given) = given else { return Ok(None) };
    let span = given.span();
    match given.into_inner() {
        toml::Value::Boolean(false) => Ok(None),
        toml::Value::Boolean(true) => Ok(Some(Transaction::default())),
        value => match value.try_into::<FileTransaction>() {
            Ok(file) => Ok(Some(Transaction {
                isolation: file.isolation,
                read_only: file.read_only,
                deferrable: file.deferrable,
            })),
            Err(error) => Err(source.error(span, error.message().to_string()).label(
                "expected `true`, or like `{ isolation = \"serializable\", read_only = true, deferrable = true }`",
            )),
        },
    }
}

fn retry(source: &Source, file: FileRetry) -> Result<Retry, Diagnostic> {
    let on = match file.on {
        None => vec!["40001".to_string(), "40P01".to_string()],
        Some(on) => {
            if let Some(wrong) = on.get_ref().iter().find(|s| !is_sqlstate(s)) {
                return Err(source
                    .error(on.span(), format!("`{wrong}` is no SQLSTATE"))
                    .label("expected five of 0-9 A-Z, like `40001`"));
            }
            on.into_inner()
        }
    };
    Ok(Retry {
        on,
        times: file.times.unwrap_or(RETRIES),
        backoff: match &file.backoff {
            None => BACKOFF,
            given => duration_or_zero(source, given)?,
        },
        backoff_max: duration_or(source, &file.backoff_max, BACKOFF_MAX)?,
        budget: file.budget.map(|b| duration(source, &b)).transpose()?,
    })
}

fn settle(source: &Source, sql: Spanned<String>) -> Result<Step, Diagnostic> {
    let at = located(sql);
    if at.text.trim().is_empty() {
        return Err(source.error(at.span, "`settle` needs SQL"));
    }
    Ok(Step {
        name: "settle".into(),
        statement: Statement::parse(&at.text),
        at,
        reject: Vec::new(),
        timeout: STEP_TIMEOUT,
        pause: Default::default(),
        second_connection: false,
    })
}

fn step(source: &Source, step: FileStep) -> Result<Step, Diagnostic> {
    let at = located(step.sql);
    if at.text.trim().is_empty() {
        return Err(source.error(at.span, "a step needs SQL"));
    }
    if let Some(word) = ends_transactions(&at.text) {
        return Err(source
            .error(
                at.span,
                format!("`{word}` can't be a step: whether a transaction was committed must be known for sure"),
            )
            .label("expected `transaction = true` in the group"));
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
        timeout: duration_or(source, &step.timeout, STEP_TIMEOUT)?,
        pause: pause(source, &step.pause)?,
        second_connection: step.connection == Some(Which::Second),
    })
}

/// The statement's first word when it begins or ends transactions: its answer doesn't say whether work was committed.
fn ends_transactions(sql: &str) -> Option<&str> {
    let mut words = leading_words(sql);
    let word = words.next()?;
    let is = |word: &str, of: &[&str]| of.iter().any(|w| word.eq_ignore_ascii_case(w));
    let ends = is(
        word,
        &[
            "begin",
            "start",
            "commit",
            "end",
            "rollback",
            "abort",
            "savepoint",
            "release",
        ],
    );
    let prepares = is(word, &["prepare"]) && words.next().is_some_and(|w| is(w, &["transaction"]));
    (ends || prepares).then_some(word)
}

fn is_sqlstate(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn refusal(given: FileRefusal) -> Option<Refusal> {
    let FileRefusal {
        sqlstate,
        constraint,
        message,
        row,
        no_row,
    } = given;
    let is_error = sqlstate.is_some() || constraint.is_some() || message.is_some();
    match (is_error, row, no_row) {
        (true, None, None) if sqlstate.as_deref().is_none_or(is_sqlstate) => Some(Refusal::Error {
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
