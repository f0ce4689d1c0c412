//! `[[sessions]]`: TOML -> [`Group`].

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::schedule::{FileSchedule, schedule_and_sessions};
use super::step::{FileStep, is_sqlstate, settle, step};
use super::value::{duration, duration_or, duration_or_zero, pause};
use crate::outcome::Outcome;
use crate::scenario::{Gate, Group, Isolation, Pool, Retry, Transaction};
use crate::source::{Diagnostic, Source, quoted};

/// k6's `gracefulStop` and `gracefulRampDown`.
pub(super) const GRACE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const RETRIES: u32 = 3;
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
    let (schedule, sessions) =
        schedule_and_sessions(source, &group.name, group.sessions.as_ref(), group.schedule.as_ref())?;
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
