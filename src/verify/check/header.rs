//! The header of a check file.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{Check, Chunk, Count, Grace, Requires, RunOn, Severity, Threshold};
use crate::source::{Diagnostic, FileError, Source, fenced};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    id: Spanned<String>,
    title: String,
    #[serde(default)]
    severity: Severity,
    warn_if: Option<Spanned<String>>,
    error_if: Option<Spanned<String>>,
    of: Option<String>,
    #[serde(default)]
    key: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    sample: Option<usize>,
    count: Option<Spanned<String>>,
    #[serde(default)]
    mask: Vec<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    grace: Option<GraceText>,
    confirm: Option<Spanned<String>>,
    #[serde(default)]
    run_on: RunOn,
    #[serde(default)]
    requires: RequiresText,
    #[serde(default)]
    params: BTreeMap<String, String>,
    chunk: Option<Chunk>,
    owner: Option<String>,
    remedy: Option<String>,
    #[serde(default)]
    needs: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GraceText {
    column: String,
    r#for: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequiresText {
    pg: Option<Spanned<String>>,
    #[serde(default)]
    relations: Vec<String>,
    #[serde(default)]
    extensions: Vec<String>,
    predicate: Option<String>,
}

pub(super) fn chunk_rows() -> u64 {
    200_000
}

pub(super) fn parse(source: Source) -> Result<Check, FileError> {
    let header: Header = source.toml(&fenced(&source, "check")?)?;
    let at = |text: &Spanned<String>| text.span();
    let threshold = |text: Option<&Spanned<String>>| {
        text.map(|t| threshold(t.get_ref()).ok_or_else(|| wrong(&source, at(t), "`> 0`, `>= 10` or `> 0.5%`")))
            .transpose()
    };
    let time = |text: &Spanned<String>| {
        let time = humantime::parse_duration(text.get_ref()).ok().filter(|t| !t.is_zero());
        time.ok_or_else(|| wrong(&source, at(text), "a length of time like `500ms`, `30s` or `15m`"))
    };
    let count = match &header.count {
        Some(text) => count(text.get_ref())
            .ok_or_else(|| wrong(&source, at(text), "`capped`, `capped(500)`, `exact` or `none`"))?,
        None => Count::default(),
    };
    let grace = match &header.grace {
        Some(grace) => Some(Grace {
            column: grace.column.clone(),
            time: time(&grace.r#for)?,
        }),
        None => None,
    };
    let (version_min, version_max) = match &header.requires.pg {
        Some(text) => {
            versions(text.get_ref()).ok_or_else(|| wrong(&source, at(text), "`>= 14`, `< 18` or `>= 14, < 18`"))?
        }
        None => (None, None),
    };
    if let Some(masked) = header.mask.iter().find(|m| header.key.contains(m.get_ref())) {
        let error = source.error(at(masked), "a masked column can't be part of the key");
        return Err(error
            .help("the key identifies a finding in reports; take another column")
            .into());
    }
    Ok(Check {
        warn_if: threshold(header.warn_if.as_ref())?,
        error_if: threshold(header.error_if.as_ref())?,
        timeout: header.timeout.as_ref().map(time).transpose()?,
        confirm: header.confirm.as_ref().map(time).transpose()?,
        id: header.id.into_inner(),
        title: header.title,
        severity: header.severity,
        of: header.of,
        key: header.key,
        tags: header.tags,
        sample: header.sample,
        count,
        mask: header.mask.into_iter().map(Spanned::into_inner).collect(),
        grace,
        run_on: header.run_on,
        requires: Requires {
            version_min,
            version_max,
            relations: header.requires.relations,
            extensions: header.requires.extensions,
            predicate: header.requires.predicate,
        },
        params: header.params,
        chunk: header.chunk,
        needs: header.needs,
        map: None,
        missing: None,
        owner: header.owner,
        remedy: header.remedy,
        source,
    })
}

fn wrong(source: &Source, span: Range<usize>, expected: &str) -> Diagnostic {
    source
        .error(span, "this can't be read")
        .label(format!("expected {expected}"))
}

fn threshold(text: &str) -> Option<Threshold> {
    let rest = text.trim().strip_prefix('>')?;
    let (is_strict, rest) = match rest.strip_prefix('=') {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let (is_percentage, number) = match rest.trim().strip_suffix('%') {
        Some(number) => (true, number),
        None => (false, rest),
    };
    let bound: f64 = number.trim().parse().ok()?;
    (bound.is_finite() && bound >= 0.0).then_some(Threshold {
        is_strict,
        bound,
        is_percentage,
    })
}

fn count(text: &str) -> Option<Count> {
    match text.trim() {
        "exact" => Some(Count::Exact),
        "none" => Some(Count::None),
        "capped" => Some(Count::default()),
        other => {
            let number = other.strip_prefix("capped(")?.strip_suffix(')')?;
            let cap = number.trim().parse().ok().filter(|n| *n > 0)?;
            Some(Count::Capped(cap))
        }
    }
}

/// `>= 14, < 18` as the first and the last major version.
fn versions(text: &str) -> Option<(Option<u32>, Option<u32>)> {
    let (mut from, mut to) = (None, None);
    for part in text.split(',').map(str::trim) {
        if let Some(number) = part.strip_prefix(">=") {
            from = Some(number.trim().parse().ok()?);
        } else if let Some(number) = part.strip_prefix("<=") {
            to = Some(number.trim().parse().ok()?);
        } else if let Some(number) = part.strip_prefix('<') {
            to = Some(number.trim().parse::<u32>().ok()?.checked_sub(1)?);
        } else {
            return None;
        }
    }
    Some((from, to))
}

impl Threshold {
    /// Whether a count, out of a total, is beyond it. A percentage of nothing is none.
    pub fn is_exceeded(&self, count: u64, total: Option<u64>) -> bool {
        let measured = match (self.is_percentage, total) {
            (false, _) => count as f64,
            (true, Some(total)) if total > 0 => 100.0 * count as f64 / total as f64,
            (true, _) => return count > 0,
        };
        match self.is_strict {
            true => measured > self.bound,
            false => measured >= self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn header(lines: &str) -> Result<Check, FileError> {
        let lines: String = lines.lines().map(|l| format!("-- {l}\n")).collect();
        let text = format!("-- /// db-race check\n-- id = \"a.b\"\n-- title = \"t\"\n{lines}-- ///\nselect 1 as id");
        Check::parse(Source::new("a.sql", text))
    }

    #[test]
    fn thresholds_counts_and_versions_are_read() {
        let check = header(
            "warn_if = '> 0'\nerror_if = '>= 0.5%'\ncount = 'capped(7)'\nrequires = { pg = '>=14, < 18' }\n\
             grace = { column = 'at', for = '15m' }",
        )
        .unwrap();
        assert!(check.warn_if.unwrap().is_exceeded(1, None) && !check.warn_if.unwrap().is_exceeded(0, None));
        let percent = check.error_if.unwrap();
        assert!(percent.is_exceeded(1, Some(200)) && !percent.is_exceeded(1, Some(201)));
        assert!(percent.is_exceeded(1, Some(0)) && !percent.is_exceeded(0, Some(0)));
        assert_eq!(check.count, Count::Capped(7));
        assert_eq!(
            (check.requires.version_min, check.requires.version_max),
            (Some(14), Some(17))
        );
        assert_eq!(check.grace.unwrap().time, Duration::from_secs(900));
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_line() {
        for (line, shown) in [
            ("warn_if = '0'", "expected `> 0`"),
            ("error_if = '> -1'", "expected `> 0`"),
            ("count = 'capped(0)'", "expected `capped`"),
            ("timeout = '0s'", "a length of time"),
            ("requires = { pg = '14' }", "expected `>= 14`"),
            ("key = ['a']\nmask = ['a']", "masked column"),
            ("sevrity = 'warn'", "did you mean `severity`"),
            ("run_on = 'replica'", "unknown variant `replica`"),
        ] {
            let error = header(line).unwrap_err().to_string();
            let at = 4 + line.matches('\n').count();
            assert!(
                error.contains(shown) && error.contains(&format!("a.sql:{at}:")),
                "{line}: {error}"
            );
        }
    }
}
