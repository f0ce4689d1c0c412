//! Which of the checks that were found are run.

use std::collections::BTreeMap;

use super::Check;
use crate::source::{like, nearest};

/// What the command line says of ids and tags. Patterns have `*` for anything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Ids of which one must fit, where there are any.
    pub only: Vec<String>,
    /// Ids of which none may fit.
    pub skip: Vec<String>,
    /// Tags of which one must be there, where there are any.
    pub tags: Vec<String>,
    /// Tags of which none may be there.
    pub exclude_tags: Vec<String>,
}

/// Why checks can't be run together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    /// Results are known by their check's id.
    #[error("two checks are called `{id}`: {first} and {second}; give one of them another id")]
    Twice {
        /// The id.
        id: String,
        /// A file.
        first: String,
        /// Another one.
        second: String,
    },
    /// Something that was asked for isn't there.
    #[error("no check has {what}; {hint}")]
    Unknown {
        /// An id or a tag.
        what: String,
        /// What there is.
        hint: String,
    },
    /// All were excluded.
    #[error("no check is left to run: {excluded} were found, and all of them are excluded")]
    Nothing {
        /// How many.
        excluded: usize,
    },
    /// A parameter that no check reads.
    #[error("no check has the parameter `{name}`; {hint}")]
    Param {
        /// Its name.
        name: String,
        /// What there is.
        hint: String,
    },
}

impl Selection {
    /// The checks to run, in their order. A file that was named twice is one check.
    ///
    /// # Errors
    /// [`SelectError`] when two files have one id, a pattern or a tag fits nothing, or nothing is left.
    pub fn of(&self, checks: Vec<Check>) -> Result<Vec<Check>, SelectError> {
        let checks = once(checks)?;
        let ids = || checks.iter().map(|check| check.id.as_str());
        for pattern in self.only.iter().chain(&self.skip) {
            if !ids().any(|id| like(pattern, id)) {
                return Err(unknown("id", pattern, ids()));
            }
        }
        let tags = || checks.iter().flat_map(|check| check.tags.iter().map(String::as_str));
        for tag in self.tags.iter().chain(&self.exclude_tags) {
            if !tags().any(|known| known == tag) {
                return Err(unknown("tag", tag, tags()));
            }
        }
        let found = checks.len();
        let checks: Vec<Check> = checks.into_iter().filter(|check| self.fits(check)).collect();
        match checks.is_empty() {
            true => Err(SelectError::Nothing { excluded: found }),
            false => Ok(checks),
        }
    }

    fn fits(&self, check: &Check) -> bool {
        let is = |patterns: &[String]| patterns.iter().any(|pattern| like(pattern, &check.id));
        let has = |tags: &[String]| tags.iter().any(|tag| check.tags.contains(tag));
        (self.only.is_empty() || is(&self.only))
            && !is(&self.skip)
            && (self.tags.is_empty() || has(&self.tags))
            && !has(&self.exclude_tags)
    }
}

/// Whether each parameter that is overridden is one of the checks'.
///
/// # Errors
/// [`SelectError::Param`] for one that is not.
pub fn known_params(checks: &[Check], params: &BTreeMap<String, String>) -> Result<(), SelectError> {
    let known = || checks.iter().flat_map(|check| check.params.keys().map(String::as_str));
    match params.keys().find(|name| !known().any(|k| k == *name)) {
        Some(name) => Err(SelectError::Param {
            name: name.clone(),
            hint: hint(name, known()),
        }),
        None => Ok(()),
    }
}

fn once(checks: Vec<Check>) -> Result<Vec<Check>, SelectError> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Vec::new();
    for check in checks {
        // two maps of one pack lead to the same files
        let file = check.map_file.as_ref().unwrap_or(&check.source.name).to_string();
        match files.get(&check.id) {
            None => {
                files.insert(check.id.clone(), file);
                kept.push(check);
            }
            Some(first) if *first == file => {}
            Some(first) => {
                return Err(SelectError::Twice {
                    id: check.id,
                    first: first.clone(),
                    second: file,
                });
            }
        }
    }
    Ok(kept)
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> SelectError {
    SelectError::Unknown {
        what: format!("the {kind} `{name}`"),
        hint: hint(name, known),
    }
}

fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    match nearest(name, known.iter().copied()) {
        Some(hint) => hint,
        None if known.is_empty() => "there are none".into(),
        None if known.len() <= 12 => format!("there are {}", known.join(", ")),
        None => format!("there are {} and {} more", known[..12].join(", "), known.len() - 12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn check(id: &str, tags: &str) -> Check {
        let text = format!("-- /// db-race check\n-- id = '{id}'\n-- title = 't'\n-- tags = {tags}\n-- ///\nselect 1");
        Check::parse(Source::new(format!("{id}.sql"), text)).unwrap()
    }

    fn ids(selection: &Selection) -> Result<Vec<String>, SelectError> {
        let all = vec![
            check("hotel.a", "['slow']"),
            check("hotel.b", "[]"),
            check("bank.c", "['slow', 'x']"),
        ];
        Ok(selection.of(all)?.into_iter().map(|check| check.id).collect())
    }

    #[test]
    fn ids_and_tags_select() {
        let words = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        let of = |only: &[&str], skip: &[&str], tags: &[&str], exclude: &[&str]| {
            ids(&Selection {
                only: words(only),
                skip: words(skip),
                tags: words(tags),
                exclude_tags: words(exclude),
            })
        };
        assert_eq!(of(&[], &[], &[], &[]).unwrap().len(), 3);
        assert_eq!(of(&["hotel.*"], &["*b"], &[], &[]).unwrap(), ["hotel.a"]);
        assert_eq!(of(&[], &[], &["slow"], &["x"]).unwrap(), ["hotel.a"]);
        let error = of(&["hotl.a"], &[], &[], &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean `hotel.a`?"), "{error}");
        let error = of(&[], &[], &["slwo"], &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean `slow`?"), "{error}");
        let error = of(&[], &["*"], &[], &[]).unwrap_err();
        assert_eq!(error, SelectError::Nothing { excluded: 3 });
    }

    #[test]
    fn an_id_is_there_once_and_a_file_may_be_named_twice() {
        let mut other = check("hotel.a", "[]");
        assert_eq!(
            Selection::default()
                .of(vec![other.clone(), other.clone()])
                .unwrap()
                .len(),
            1
        );
        other.source = Source::new("other.sql", "");
        let error = Selection::default()
            .of(vec![check("hotel.a", "[]"), other])
            .unwrap_err()
            .to_string();
        assert!(error.contains("hotel.a.sql") && error.contains("other.sql"), "{error}");
    }

    #[test]
    fn a_parameter_must_be_one_of_the_checks() {
        let params = BTreeMap::from([("ttl".to_string(), "1".to_string())]);
        assert!(known_params(&[check("a", "[]")], &params).is_err());
    }
}
