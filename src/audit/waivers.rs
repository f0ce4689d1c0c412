//! Findings that somebody answers for: `waivers.toml`.
//!
//! ```toml
//! [[waiver]]
//! check  = "hotel.orphan_holds"     # an id; `*` stands for anything
//! key    = { hold_id = 17 }         # some or all of the key columns; without it every finding of the check
//! owner  = "bookings@example.com"
//! reason = "left by the import of 2024, nobody can book it"
//! until  = 2027-01-31               # the last day
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::diff::Key;
use super::{Moment, Subject};
use crate::source::{FileError, Source, like, nearest, quoted};

/// One waiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The check's id, or a pattern for several.
    pub check: String,
    /// The key columns that must have these values; all findings of the check when there are none.
    pub key: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: String,
    /// Why it may be so.
    pub reason: String,
    /// The last day, `2027-01-31`, in UTC.
    pub until: String,
    /// The line in the file at which it stands.
    pub line: usize,
}

/// All waivers of a file.
#[derive(Clone, Debug, Default)]
pub struct Waivers {
    /// The file, as the user knows it.
    pub file: Option<String>,
    /// In the file's order.
    pub list: Vec<Waiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    waiver: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    check: Spanned<String>,
    #[serde(default)]
    key: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    owner: Spanned<String>,
    reason: Spanned<String>,
    until: Spanned<toml::value::Datetime>,
}

/// The checks that a waiver may be about, with the key columns of those whose files are there.
pub type Checks = BTreeMap<String, Option<Vec<String>>>;

impl Waivers {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`] at the line: what is missing or wrong, or about a check or a column that doesn't exist.
    pub fn read(path: &Path, checks: &Checks) -> Result<Waivers, FileError> {
        Waivers::parse(&Source::read(path)?, checks)
    }

    fn parse(source: &Source, checks: &Checks) -> Result<Waivers, FileError> {
        let file: File = source.toml(&source.text)?;
        let waivers = file.waiver.into_iter().map(|entry| waiver(source, entry, checks));
        Ok(Waivers {
            file: Some(source.name.to_string()),
            list: waivers.collect::<Result<_, FileError>>()?,
        })
    }

    /// The first waiver that covers a finding and has not expired.
    pub fn of(&self, subject: &Subject, key: &Key, now: Moment) -> Option<usize> {
        let covers = |waiver: &Waiver| waiver.covers(subject, key) && !waiver.is_expired(now);
        self.list.iter().position(covers)
    }

    /// Whether all that a check may find is waived.
    pub fn cover_all_of(&self, subject: &Subject, now: Moment) -> bool {
        let covers = |w: &Waiver| w.key.is_empty() && like(&w.check, &subject.check) && !w.is_expired(now);
        self.list.iter().any(covers)
    }
}

impl Waiver {
    /// Whether a finding is what it is about, expired or not.
    pub fn covers(&self, subject: &Subject, key: &Key) -> bool {
        let has = |(column, value): (&String, &String)| key.get(column).is_some_and(|v| v.as_ref() == Some(value));
        like(&self.check, &subject.check) && self.key.iter().all(has)
    }

    /// Whether its last day is over.
    pub fn is_expired(&self, now: Moment) -> bool {
        self.until < now.date()
    }
}

fn waiver(source: &Source, entry: Entry, checks: &Checks) -> Result<Waiver, FileError> {
    let is_meant = |id: &str| like(entry.check.get_ref(), id);
    let meant: Vec<_> = checks.iter().filter(|(id, _)| is_meant(id)).collect();
    if meant.is_empty() {
        let error = source.error(entry.check.span(), "there is no such check");
        let near = nearest(entry.check.get_ref(), checks.keys().map(String::as_str));
        let help = near.unwrap_or_else(|| "it is neither among the checks of this run nor known from another".into());
        return Err(error.help(help).into());
    }
    for (text, what) in [
        (&entry.owner, "who answers for it"),
        (&entry.reason, "why it may be so"),
    ] {
        if text.get_ref().trim().is_empty() {
            return Err(source
                .error(text.span(), "this is empty")
                .label(format!("expected {what}"))
                .into());
        }
    }
    let columns: BTreeSet<&String> = meant.iter().filter_map(|(_, key)| key.as_ref()).flatten().collect();
    let are_known = meant.iter().all(|(_, key)| key.is_some());
    let mut key = BTreeMap::new();
    for (column, value) in entry.key {
        if are_known && !columns.contains(column.get_ref()) {
            let error = source.error(column.span(), format!("`{}` is no key column of it", column.get_ref()));
            let columns: Vec<&String> = columns.into_iter().collect();
            let label = match columns.is_empty() {
                true => "the check has no key".to_string(),
                false => format!("expected one of {}", quoted(&columns)),
            };
            return Err(error.label(label).into());
        }
        key.insert(column.into_inner(), value_text(source, value)?);
    }
    let until = entry.until.get_ref();
    let (Some(date), None) = (until.date, until.time) else {
        return Err(not_a_day(source, entry.until.span()));
    };
    Ok(Waiver {
        line: source.line(entry.check.span().start),
        until: date.to_string(),
        check: entry.check.into_inner(),
        key,
        owner: entry.owner.into_inner(),
        reason: entry.reason.into_inner(),
    })
}

fn not_a_day(source: &Source, span: Range<usize>) -> FileError {
    let error = source.error(span, "this is no day");
    error.label("expected a day without quotes, like 2027-01-31").into()
}

/// A value as the server shows it.
fn value_text(source: &Source, value: Spanned<toml::Value>) -> Result<String, FileError> {
    let span = value.span();
    Ok(match value.into_inner() {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        // `t` and `f`, as PostgreSQL shows them
        toml::Value::Boolean(is) => if is { "t" } else { "f" }.into(),
        toml::Value::Datetime(date) if date.time.is_none() => date.to_string(),
        _ => {
            let error = source.error(span, "this can't be a key's value");
            return Err(error
                .label("expected a text in quotes, as reports show the value")
                .into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "[[waiver]]\ncheck = 'shop.a'\nkey = { id = 17 }\nowner = 'me'\nreason = 'old'\nuntil = 2026-11-21\n";

    fn checks() -> Checks {
        let columns = Some(vec!["day".to_string(), "id".to_string()]);
        Checks::from([
            ("shop.a".into(), columns.clone()),
            ("shop.b".into(), columns),
            ("gone.c".into(), None),
        ])
    }

    fn parse(text: &str) -> Result<Waivers, FileError> {
        Waivers::parse(&Source::new("waivers.toml", text), &checks())
    }

    fn finding(check: &str, id: &str) -> (Subject, Key) {
        let subject = Subject {
            database: "shop".into(),
            check: check.into(),
        };
        (
            subject,
            Key::from([("day".into(), None), ("id".into(), Some(id.into()))]),
        )
    }

    #[test]
    fn some_columns_of_the_key_are_enough_and_the_last_day_counts() {
        let day = |text: &str| Moment::parse(&format!("{text}T12:00:00Z")).unwrap();
        let waivers = parse(GOOD).unwrap();
        let (subject, key) = finding("shop.a", "17");
        assert_eq!(waivers.of(&subject, &key, day("2026-11-21")), Some(0));
        assert_eq!(waivers.of(&subject, &key, day("2026-11-22")), None, "expired");
        let (_, other) = finding("shop.a", "18");
        assert_eq!(waivers.of(&subject, &other, day("2026-11-21")), None);
        assert!(!waivers.cover_all_of(&subject, day("2026-11-21")));

        let all = parse(&GOOD.replace("key = { id = 17 }\n", "").replace("shop.a", "shop.*")).unwrap();
        assert!(all.cover_all_of(&finding("shop.b", "1").0, day("2026-11-21")));
        assert_eq!(parse("").unwrap().list, []);
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_line() {
        for (from, to, line, shown) in [
            ("shop.a", "shop.aa", 2, "did you mean `shop.a`?"),
            ("shop.a", "tenants.*", 2, "no such check"),
            ("id = 17", "nr = 17", 3, "expected one of `day`, `id`"),
            ("id = 17", "id = [1]", 3, "a text in quotes"),
            ("owner = 'me'\n", "", 1, "missing field `owner`"),
            ("reason = 'old'\n", "", 1, "missing field `reason`"),
            ("until = 2026-11-21\n", "", 1, "missing field `until`"),
            ("'old'", "' '", 5, "expected why it may be so"),
            ("2026-11-21", "'2026-11-21'", 6, "datetime"),
            ("2026-11-21", "2026-11-21T10:00:00Z", 6, "expected a day without quotes"),
            ("owner", "ownr", 4, "did you mean `owner`?"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(
                error.contains(shown) && error.contains(&format!("waivers.toml:{line}:")),
                "{to}: {error}"
            );
        }
        assert!(
            parse(&GOOD.replace("shop.a", "gone.c").replace("id =", "nr =")).is_ok(),
            "its columns aren't known"
        );
    }
}
