//! What a `suite.toml` says of single checks, by id: over what their own files say.

use std::ops::Range;

use toml::Spanned;

use super::Check;
use super::header::{self, Fields, MASKED_KEY, masked_key};
use crate::source::{Diagnostic, Source, nearest};

/// An `[override."<id>"]`.
pub(in crate::verify) struct Override {
    pub(in crate::verify) id: Spanned<String>,
    fields: Fields,
    /// Whether it is run at all, and why not.
    enabled: Option<Result<(), String>>,
}

/// The overrides of a `suite.toml`.
pub(in crate::verify) fn overrides(suite: &Source) -> Result<Vec<Override>, Diagnostic> {
    let text = header::suite(suite)?;
    let mut found = Vec::new();
    for (id, mut inner) in text.r#override {
        let enabled = match (inner.enabled.take(), inner.reason.take()) {
            (None, None) => None,
            (None, Some(reason)) => {
                let error = suite.error(reason.span(), "a reason for what?");
                return Err(error.help("it stands beside `enabled = false`"));
            }
            (Some(on), _) if *on.get_ref() => Some(Ok(())),
            (Some(off), reason) => {
                let reason = reason
                    .map(Spanned::into_inner)
                    .filter(|reason| !reason.trim().is_empty());
                let Some(reason) = reason else {
                    let error = suite.error(off.span(), "there is no reason for it");
                    return Err(error.help("add a `reason`: reports say why the check is skipped"));
                };
                let place = format!("{}:{}", suite.name, suite.line(off.span().start));
                Some(Err(format!("switched off in {place}: {reason}")))
            }
        };
        let fields = header::read(suite, inner)?;
        found.push(Override { id, fields, enabled });
    }
    Ok(found)
}

impl Override {
    /// Says it of a check, after what is further out.
    pub(in crate::verify) fn apply(self, suite: &Source, check: &mut Check) -> Result<(), Diagnostic> {
        let span = self.id.span();
        let Fields {
            severity,
            warn_if,
            error_if,
            of,
            tags,
            sample,
            count,
            mask,
            timeout,
            grace,
            confirm,
            run_on,
            requires,
            params,
            chunk,
            row_security,
            owner,
            remedy,
        } = self.fields;
        let has_threshold = warn_if.is_some() || error_if.is_some();
        if has_threshold {
            // both: who says one of them says all about thresholds, as in a header
            (check.warn_if, check.error_if) = (warn_if, error_if);
        }
        if let Some(severity) = severity {
            if !has_threshold && (check.warn_if.is_some() || check.error_if.is_some()) {
                let error = suite.error(span, format!("the `severity` of `{}` says nothing", check.id));
                return Err(error.help("it has thresholds; give `warn_if` or `error_if` instead"));
            }
            check.severity = severity;
        }
        for (name, value) in params {
            let Some(own) = check.params.get_mut(&name) else {
                let error = suite.error(span, format!("`{}` has no parameter `{name}`", check.id));
                return Err(with_hint(error, &name, check.params.keys().map(String::as_str)));
            };
            *own = value;
        }
        check.tags.extend(tags);
        put(&mut check.count, count);
        put(&mut check.mask, mask);
        put(&mut check.run_on, run_on);
        put(&mut check.requires, requires);
        put(&mut check.row_security, row_security);
        put(&mut check.of, of.map(Some));
        put(&mut check.sample, sample.map(Some));
        put(&mut check.timeout, timeout.map(Some));
        put(&mut check.grace, grace.map(Some));
        put(&mut check.confirm, confirm.map(Some));
        put(&mut check.chunk, chunk.map(Some));
        put(&mut check.owner, owner.map(Some));
        put(&mut check.remedy, remedy.map(Some));
        match self.enabled {
            Some(Err(why)) => check.off = Some(why),
            Some(Ok(())) => check.off = None,
            None => {}
        }
        still_fits(suite, span, check)
    }
}

fn put<T>(own: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *own = given;
    }
}

/// What a header is refused for, too.
fn still_fits(suite: &Source, span: Range<usize>, check: &Check) -> Result<(), Diagnostic> {
    if check.mask.iter().any(|masked| check.key.contains(masked)) {
        return Err(masked_key(suite.error(span, MASKED_KEY)));
    }
    if check.confirm.is_some() && check.key.is_empty() {
        let error = suite.error(span, format!("`confirm` needs a `key`, which `{}` has not", check.id));
        return Err(error.help("two runs are compared by the rows' keys"));
    }
    Ok(())
}

/// The nearest of the names that there are, or some of them.
pub(in crate::verify) fn with_hint<'a>(
    error: Diagnostic,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    match nearest(name, known.iter().copied()) {
        Some(hint) => error.help(hint),
        None if known.is_empty() => error.help("there are none"),
        None if known.len() > 12 => {
            error.help("`db-race list` shows the bundled checks, and `db-race list PATHS` those of files")
        }
        None => error.help(format!("there are {}", known.join(", "))),
    }
}
