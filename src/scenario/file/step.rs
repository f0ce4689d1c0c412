//! A step, its refusals, and `settle`: TOML -> [`Step`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::located;
use super::value::{duration_or, pause};
use crate::scenario::{Refusal, Statement, Step};
use crate::source::leading_words;
use crate::source::{Diagnostic, Source};

const STEP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileStep {
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

pub(super) fn settle(source: &Source, sql: Spanned<String>) -> Result<Step, Diagnostic> {
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

pub(super) fn step(source: &Source, step: FileStep) -> Result<Step, Diagnostic> {
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

pub(super) fn is_sqlstate(text: &str) -> bool {
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
