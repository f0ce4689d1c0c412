//! The header of a check file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::values::{count, threshold, versions};
use super::{Check, Chunk, Count, Grace, Requires, RunOn, Severity, Threshold};
use crate::source::{Diagnostic, FileError, Source, fenced};

/// What stands in a header, or in a `suite.toml`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    id: Option<Spanned<String>>,
    title: Option<Spanned<String>>,
    severity: Option<Severity>,
    warn_if: Option<Spanned<String>>,
    error_if: Option<Spanned<String>>,
    of: Option<String>,
    key: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    tags: Vec<String>,
    sample: Option<usize>,
    count: Option<Spanned<String>>,
    mask: Option<Vec<Spanned<String>>>,
    timeout: Option<Spanned<String>>,
    grace: Option<GraceText>,
    confirm: Option<Spanned<String>>,
    run_on: Option<RunOn>,
    requires: Option<RequiresText>,
    #[serde(default)]
    params: BTreeMap<Spanned<String>, String>,
    chunk: Option<Chunk>,
    needs: Option<Spanned<BTreeMap<String, Vec<String>>>>,
    row_security: Option<bool>,
    owner: Option<String>,
    remedy: Option<String>,
    /// Of single checks, by id.
    #[serde(default)]
    pub(super) r#override: BTreeMap<Spanned<String>, Text>,
    /// The next two are an override's own.
    pub(super) enabled: Option<Spanned<bool>>,
    pub(super) reason: Option<Spanned<String>>,
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

/// What a suite can say of checks, read.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) severity: Option<Severity>,
    pub(super) warn_if: Option<Threshold>,
    pub(super) error_if: Option<Threshold>,
    pub(super) of: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) sample: Option<usize>,
    pub(super) count: Option<Count>,
    pub(super) mask: Option<Vec<String>>,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Option<Grace>,
    pub(super) confirm: Option<Duration>,
    pub(super) run_on: Option<RunOn>,
    pub(super) requires: Option<Requires>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) chunk: Option<Chunk>,
    pub(super) row_security: Option<bool>,
    pub(super) owner: Option<String>,
    pub(super) remedy: Option<String>,
}

/// Reads a check; the suites are those of the folders around it, the outermost first.
pub(super) fn parse(source: Source, suites: &[Source]) -> Result<Check, FileError> {
    if let Some(at) = source.text.find('\0') {
        return Err(source.error(at..at + 1, "there is a NUL character in it").into());
    }
    let mut text: Text = source.toml(&fenced(&source, "check")?)?;
    text.refuse(
        &source,
        "a check",
        &[OVERRIDE, ENABLED, REASON],
        "it stands in a `suite.toml`",
    )?;
    let (Some(id), Some(title)) = (text.id.take(), text.title.take()) else {
        let missing = if text.id.is_none() { "id" } else { "title" };
        let error = source.error(0..0, format!("missing field `{missing}`"));
        return Err(error.help("a check has an `id` and a `title`").into());
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if id.get_ref().is_empty() || !id.get_ref().chars().all(is_plain) {
        let error = source.error(id.span(), "this is no id");
        return Err(error.label("letters, digits, `.`, `_`, `-` and `/`").into());
    }
    let key = text.key.take().map(Spanned::into_inner).unwrap_or_default();
    let needs = text.needs.take().map(Spanned::into_inner).unwrap_or_default();
    let masked = text.mask.iter().flatten().find(|m| key.contains(m.get_ref()));
    if let Some(masked) = masked {
        return Err(masked_key(source.error(masked.span(), MASKED_KEY)).into());
    }
    let mut fields = read(&source, text)?;
    for suite in suites.iter().rev() {
        fields = fields.or(defaults(suite)?);
    }
    let mask = fields.mask.unwrap_or_default();
    if mask.iter().any(|m| key.contains(m)) {
        return Err(masked_key(source.error(0..0, MASKED_KEY)).into());
    }
    if fields.confirm.is_some() && key.is_empty() {
        let error = source.error(id.span(), "`confirm` needs a `key`");
        return Err(error.help("two runs are compared by the rows' keys").into());
    }
    Ok(Check {
        id: id.into_inner(),
        title: title.into_inner(),
        severity: fields.severity.unwrap_or_default(),
        warn_if: fields.warn_if,
        error_if: fields.error_if,
        of: fields.of,
        key,
        tags: fields.tags,
        sample: fields.sample,
        count: fields.count.unwrap_or_default(),
        mask,
        timeout: fields.timeout,
        grace: fields.grace,
        confirm: fields.confirm,
        run_on: fields.run_on.unwrap_or_default(),
        requires: fields.requires.unwrap_or_default(),
        params: fields.params,
        chunk: fields.chunk,
        row_security: fields.row_security.unwrap_or_default(),
        needs,
        map: None,
        map_file: None,
        missing: None,
        off: None,
        owner: fields.owner,
        remedy: fields.remedy,
        source,
    })
}

pub(super) const MASKED_KEY: &str = "a masked column can't be part of the key";

pub(super) fn masked_key(error: Diagnostic) -> Diagnostic {
    error.help("the key identifies a finding in reports; take another column")
}

/// Fields that don't stand everywhere.
type Field = (&'static str, fn(&Text) -> Option<Range<usize>>);
const ID: Field = ("id", |t| t.id.as_ref().map(Spanned::span));
const TITLE: Field = ("title", |t| t.title.as_ref().map(Spanned::span));
const KEY: Field = ("key", |t| t.key.as_ref().map(Spanned::span));
const NEEDS: Field = ("needs", |t| t.needs.as_ref().map(Spanned::span));
const OVERRIDE: Field = ("override", |t| t.r#override.keys().next().map(Spanned::span));
const ENABLED: Field = ("enabled", |t| t.enabled.as_ref().map(Spanned::span));
const REASON: Field = ("reason", |t| t.reason.as_ref().map(Spanned::span));
/// What only a check's own file can say.
const OWN: [Field; 4] = [ID, TITLE, KEY, NEEDS];

impl Text {
    /// That none of these fields is there.
    fn refuse(&self, source: &Source, what: &str, fields: &[Field], help: &str) -> Result<(), Diagnostic> {
        match fields.iter().find_map(|(name, span)| Some((name, span(self)?))) {
            Some((name, span)) => Err(source.error(span, format!("{what} has no `{name}`")).help(help)),
            None => Ok(()),
        }
    }
}

const IN_HEADER: &str = "it stands in each check's own header";

/// The defaults that a `suite.toml` gives.
fn defaults(suite: &Source) -> Result<Fields, Diagnostic> {
    read(suite, self::suite(suite)?)
}

/// What stands in a `suite.toml`.
pub(super) fn suite(source: &Source) -> Result<Text, Diagnostic> {
    let text: Text = source.toml(&source.text)?;
    text.refuse(source, "a suite", &OWN, IN_HEADER)?;
    text.refuse(
        source,
        "a suite",
        &[ENABLED, REASON],
        "it stands in `[override.\"<id>\"]`",
    )?;
    for inner in text.r#override.values() {
        inner.refuse(source, "an override", &OWN, IN_HEADER)?;
        inner.refuse(source, "an override", &[OVERRIDE], "one check has no others in it")?;
    }
    Ok(text)
}

pub(super) fn read(source: &Source, text: Text) -> Result<Fields, Diagnostic> {
    let at = |text: &Spanned<String>| text.span();
    let threshold = |text: Option<&Spanned<String>>| {
        text.map(|t| threshold(t.get_ref()).ok_or_else(|| wrong(source, at(t), "`> 0`, `>= 10` or `> 0.5%`")))
            .transpose()
    };
    let time = |text: &Spanned<String>| {
        let time = humantime::parse_duration(text.get_ref()).ok().filter(|t| !t.is_zero());
        time.ok_or_else(|| wrong(source, at(text), "a length of time like `500ms`, `30s` or `15m`"))
    };
    let count = |text: &Spanned<String>| {
        count(text.get_ref()).ok_or_else(|| wrong(source, at(text), "`capped`, `capped(500)`, `exact` or `none`"))
    };
    let grace = |grace: &GraceText| {
        Ok(Grace {
            column: grace.column.clone(),
            time: time(&grace.r#for)?,
        })
    };
    let requires = |requires: RequiresText| {
        let (version_min, version_max) = match &requires.pg {
            Some(text) => {
                versions(text.get_ref()).ok_or_else(|| wrong(source, at(text), "`>= 14`, `< 18` or `>= 14, < 18`"))?
            }
            None => (None, None),
        };
        Ok(Requires {
            version_min,
            version_max,
            relations: requires.relations,
            extensions: requires.extensions,
            predicate: requires.predicate,
        })
    };
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(name) = text.params.keys().find(|name| !is_name(name.get_ref())) {
        return Err(wrong(source, at(name), "a name of letters, digits and `_`"));
    }
    Ok(Fields {
        severity: text.severity,
        warn_if: threshold(text.warn_if.as_ref())?,
        error_if: threshold(text.error_if.as_ref())?,
        of: text.of,
        tags: text.tags,
        sample: text.sample,
        count: text.count.as_ref().map(count).transpose()?,
        mask: text
            .mask
            .map(|mask| mask.into_iter().map(Spanned::into_inner).collect()),
        timeout: text.timeout.as_ref().map(time).transpose()?,
        grace: text.grace.as_ref().map(grace).transpose()?,
        confirm: text.confirm.as_ref().map(time).transpose()?,
        run_on: text.run_on,
        requires: text.requires.map(requires).transpose()?,
        params: text
            .params
            .into_iter()
            .map(|(name, value)| (name.into_inner(), value))
            .collect(),
        chunk: text.chunk,
        row_security: text.row_security,
        owner: text.owner,
        remedy: text.remedy,
    })
}

impl Fields {
    /// With defaults from further out; tags and parameters add up.
    fn or(mut self, outer: Fields) -> Fields {
        self.tags.extend(outer.tags);
        for (name, value) in outer.params {
            self.params.entry(name).or_insert(value);
        }
        let has_threshold = self.warn_if.is_some() || self.error_if.is_some();
        Fields {
            severity: self.severity.or(outer.severity),
            // a check that has one of them says all about its thresholds
            warn_if: self.warn_if.or(outer.warn_if.filter(|_| !has_threshold)),
            error_if: self.error_if.or(outer.error_if.filter(|_| !has_threshold)),
            of: self.of.or(outer.of),
            tags: self.tags,
            sample: self.sample.or(outer.sample),
            count: self.count.or(outer.count),
            mask: self.mask.or(outer.mask),
            timeout: self.timeout.or(outer.timeout),
            grace: self.grace.or(outer.grace),
            confirm: self.confirm.or(outer.confirm),
            run_on: self.run_on.or(outer.run_on),
            requires: self.requires.or(outer.requires),
            params: self.params,
            chunk: self.chunk.or(outer.chunk),
            row_security: self.row_security.or(outer.row_security),
            owner: self.owner.or(outer.owner),
            remedy: self.remedy.or(outer.remedy),
        }
    }
}

fn wrong(source: &Source, span: Range<usize>, expected: &str) -> Diagnostic {
    source
        .error(span, "this can't be read")
        .label(format!("expected {expected}"))
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
            ("params = { 'a b' = '1' }", "expected a name"),
        ] {
            let error = header(line).unwrap_err().to_string();
            let at = 4 + line.matches('\n').count();
            assert!(
                error.contains(shown) && error.contains(&format!("a.sql:{at}:")),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn a_suite_gives_defaults_and_the_inner_one_wins() {
        let suites = [
            Source::new(
                "suite.toml",
                "severity = 'warn'\ntags = ['all']\ntimeout = '5s'\nsample = 9",
            ),
            Source::new("in/suite.toml", "timeout = '7s'\ntags = ['inner']\nerror_if = '> 9'"),
        ];
        let text =
            "-- /// db-race check\n-- id = 'a'\n-- title = 't'\n-- sample = 3\n-- warn_if = '> 1'\n-- ///\nselect 1";
        let check = Check::parse_with(Source::new("in/a.sql", text), &suites).unwrap();
        assert_eq!((check.severity, check.sample), (Severity::Warn, Some(3)));
        assert_eq!(check.timeout, Some(Duration::from_secs(7)));
        assert_eq!(check.tags, ["inner", "all"]);
        assert!(check.warn_if.is_some() && check.error_if.is_none());
        for (suite, shown) in [
            ("id = 'x'", "a suite has no `id`"),
            ("timeot = '1s'", "did you mean `timeout`"),
        ] {
            let suites = [Source::new("suite.toml", suite)];
            let error = Check::parse_with(Source::new("a.sql", text), &suites)
                .unwrap_err()
                .to_string();
            assert!(error.contains("suite.toml:1:") && error.contains(shown), "{error}");
        }
    }

    #[test]
    fn a_header_that_is_too_deep_is_refused() {
        let error = header(&format!("key = {}{}", "[".repeat(100_000), "]".repeat(100_000))).unwrap_err();
        assert!(error.to_string().len() < 1_000_000);
    }

    #[test]
    fn every_field_is_documented_with_an_example_that_is_read() {
        let page = include_str!("../../../docs/checks.md");
        let mut seen = Vec::new();
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let names = cells[0].trim_start_matches("| `").trim_end_matches('`').split("`, `");
            let examples = cells[1].trim_matches('`').split("`, `");
            for (name, example) in names.zip(examples) {
                let key = if name == "key" { "" } else { "key = ['booking_id']\n" };
                let text = match name {
                    "id" | "title" => String::new(),
                    _ => format!("{key}{name} = {example}"),
                };
                header(&text).unwrap_or_else(|error| panic!("{error}"));
                seen.push(name);
            }
        }
        let error = header("x = 1").unwrap_err().to_string();
        let known = error.split("expected one of ").nth(1).unwrap();
        for name in known.split('`').skip(1).step_by(2) {
            // of packs and suites, and documented with them
            let is_elsewhere = ["needs", "override", "enabled", "reason"].contains(&name);
            assert!(seen.contains(&name) || is_elsewhere, "{name} is not in docs/checks.md");
        }
    }
}
