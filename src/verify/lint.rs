//! What is wrong with check files, without running them.

use super::Check;
use crate::source::{count_statements, words};

/// How bad a problem of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Something that the file promises doesn't work.
    Warning,
    /// It can't be run.
    Error,
}

impl Level {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Something that is wrong with a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// What, and what to do.
    pub text: String,
}

impl Problem {
    pub(super) fn new(level: Level, text: impl Into<String>) -> Problem {
        Problem {
            level,
            text: text.into(),
        }
    }
}

/// What is wrong with a check, as far as its file tells.
pub fn lint(check: &Check) -> Vec<Problem> {
    let (body, _) = check.statement();
    let mut problems = Vec::new();
    let mut add = |level, text: String| problems.push(Problem::new(level, text));
    match count_statements(&body) {
        1 => {}
        0 => add(Level::Error, "it has no statement".into()),
        n => add(Level::Error, format!("it has {n} statements; a check is one query")),
    }
    if check.key.is_empty() {
        let why = "it has no `key`: its findings can't be told apart between runs, confirmed or waived";
        add(Level::Warning, why.into());
    }
    let words: Vec<String> = words(&body).collect();
    if !words.windows(2).any(|pair| pair[0] == "order" && pair[1] == "by") {
        add(
            Level::Note,
            "it has no ORDER BY: which of many rows are shown is chance".into(),
        );
    }
    let mut thresholds = check.warn_if.iter().chain(&check.error_if);
    match (thresholds.any(|t| t.is_percentage), &check.of) {
        (true, None) => add(
            Level::Error,
            "a percentage of what? Add `of`, a query of one number".into(),
        ),
        (false, Some(_)) => add(Level::Warning, "`of` is not used: no threshold is a percentage".into()),
        _ => {}
    }
    let read = read_params(&check.source.text);
    for name in check.params.keys().filter(|name| !read.contains(name)) {
        add(
            Level::Warning,
            format!("nothing reads the parameter `{name}` (current_setting('race.{name}'))"),
        );
    }
    let of_chunk = ["chunk_from", "chunk_to"];
    for name in &read {
        let is_given = check.params.contains_key(name) || check.chunk.is_some() && of_chunk.contains(&&**name);
        if !is_given {
            add(
                Level::Error,
                format!("it reads `race.{name}`, which `params` doesn't give"),
            );
        }
    }
    if check.chunk.is_some() {
        for name in of_chunk.iter().filter(|name| !read.iter().any(|r| r == *name)) {
            let why =
                format!("it is walked in ranges and doesn't read `race.{name}`: each range would find the same rows");
            add(Level::Error, why);
        }
    }
    problems
}

/// The names in `current_setting('race.<name>')`.
fn read_params(text: &str) -> Vec<String> {
    let sql = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let mut found = Vec::new();
    for line in sql {
        for part in line.split("'race.").skip(1) {
            let name: String = part
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if !name.is_empty() && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn problems(header: &str, sql: &str) -> Vec<String> {
        let lines: String = header.lines().map(|l| format!("-- {l}\n")).collect();
        let text = format!("-- /// db-race check\n-- id = 'a'\n-- title = 't'\n{lines}-- ///\n{sql}");
        let check = Check::parse(Source::new("a.sql", text)).unwrap();
        lint(&check)
            .into_iter()
            .map(|p| format!("{}: {}", p.level.name(), p.text))
            .collect()
    }

    #[test]
    fn a_good_check_has_no_problems_and_each_mistake_has_its_own() {
        let key = "key = ['id']";
        assert_eq!(problems(key, "select id from t order by id;"), [""; 0]);
        for (header, sql, shown) in [
            ("", "select 1 as id order by 1", "warning: it has no `key`"),
            (key, "select 1 as id", "note: it has no ORDER BY"),
            (key, "select 1 as id; select 2 order by 1", "error: it has 2 statements"),
            (key, "-- nothing", "error: it has no statement"),
            (
                "key = ['id']\nerror_if = '> 1%'",
                "select 1 as id order by 1",
                "error: a percentage of what",
            ),
            (
                "key = ['id']\nof = 'select 1'",
                "select 1 as id order by 1",
                "warning: `of` is not used",
            ),
            (
                "key = ['id']\nparams = { a = '1' }",
                "select 1 as id order by 1",
                "parameter `a`",
            ),
            (
                key,
                "select current_setting('race.b') as id order by 1",
                "error: it reads `race.b`",
            ),
            (
                "key = ['id']\nchunk = { relation = 't', key = 'id' }",
                "select 1 as id order by 1",
                "`race.chunk_to`",
            ),
        ] {
            let found = problems(header, sql);
            assert!(found.iter().any(|p| p.contains(shown)), "{shown}: {found:?}");
        }
    }
}
