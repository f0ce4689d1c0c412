//! `[expect]`: TOML -> [`Rule`]s.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use crate::scenario::{Abort, Group, Names, Rule, Side};
use crate::source::{Diagnostic, Source};

pub(super) fn rules(
    source: &Source,
    given: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    groups: &[Group],
) -> Result<Vec<Rule>, Diagnostic> {
    let steps: Vec<&str> = groups.iter().flat_map(|g| &g.steps).map(|s| s.name.as_str()).collect();
    let groups_named: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
    let names = Names {
        groups: &groups_named,
        steps: &steps,
    };
    let mut given: Vec<_> = given.into_iter().collect();
    given.sort_by_key(|(measure, _)| measure.span().start);
    let mut rules = Vec::new();
    for (measure, must) in given {
        let (text, abort) = must_and_abort(source, &must)?;
        let mut rule = Rule::parse(measure.get_ref(), &text, names).map_err(|wrong| {
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
        rule.abort = abort;
        rule.line = Some(source.line(measure.span().start));
        rules.push(rule);
    }
    for rule in Rule::of_every_run(groups.iter().any(|g| g.settle.is_some())) {
        if !rules.iter().any(|r| r.measure == rule.measure) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// `"== 0"`, or `{ must = "== 0", abort = true, grace = "10s" }`.
fn must_and_abort(source: &Source, value: &Spanned<toml::Value>) -> Result<(String, Option<Abort>), Diagnostic> {
    let wrong = |message: &str| {
        source
            .error(value.span(), message)
            .label("expected like `\"== 0\"` or `{ must = \"== 0\", abort = true, grace = \"10s\" }`")
    };
    if let Some(text) = value.get_ref().as_str() {
        return Ok((text.to_string(), None));
    }
    let table = value.get_ref().as_table().ok_or_else(|| wrong("this is no rule"))?;
    if let Some(unknown) = table.keys().find(|k| !["must", "abort", "grace"].contains(&k.as_str())) {
        return Err(wrong(&format!("unknown field `{unknown}`")));
    }
    let text = |name: &str| table.get(name).and_then(toml::Value::as_str);
    let must = text("must").ok_or_else(|| wrong("this rule has no `must`"))?;
    let grace = match text("grace") {
        None => Duration::ZERO,
        Some(grace) => humantime::parse_duration(grace).map_err(|_| wrong("`grace` is no length of time"))?,
    };
    let abort = table.get("abort").is_some_and(|a| a.as_bool() == Some(true));
    Ok((must.to_string(), abort.then_some(Abort { grace })))
}
