//! A guessed map as a file for the user to read and complete.

use std::collections::BTreeMap;

use super::guess::{Guess, Guessed, GuessedRelation};
use super::{Column, Pack, Relation};
use crate::verify::Check;

/// The text of a map file: what was guessed, what is doubtful (marked `?`), and what was not found (commented out, with what it means).
pub fn draft(pack: &Pack, checks: &[Check], guess: &Guess, database: &str) -> String {
    let mut text = format!(
        "# {}\n#\n\
         # A map for `db-race verify`: the names on the left are the pack's, those on the right are SQL over your tables.\n\
         # Guessed by `db-race init --pack {}` from the catalog of {database}.\n\
         # `?` marks what you should look at. A check that needs a line that isn't there is skipped, and says so.\n\n\
         pack = \"{}\"\n",
        pack.title, pack.name, pack.name
    );
    let (names, when) = match &pack.skip {
        Some(skip) => (skip.checks.clone(), &*skip.when),
        None => (vec!["a_check".to_string()], "a check is not for you"),
    };
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    text.push_str(&format!("# skip = [{}]  # where {when}\n", names.join(", ")));
    for guessed in &guess.relations {
        if let Some(relation) = pack.relation(&guessed.name) {
            text.push('\n');
            relation_lines(relation, guessed, &mut text);
        }
    }
    text.push_str(&options(checks));
    text
}

/// Values are padded up to this, so that the comments behind them stand in a column.
const PADDED_MAX: usize = 48;

fn relation_lines(relation: &Relation, guessed: &GuessedRelation, text: &mut String) {
    let names = relation.columns.iter().map(|c| c.name.len());
    let values = [&guessed.from, &guessed.filter]
        .into_iter()
        .chain(guessed.columns.iter().map(|(_, sql)| sql));
    let values = values
        .flatten()
        .map(|sql| quoted(&sql.sql))
        .filter(|v| !v.contains('\n'));
    let widths = Widths {
        // and `# `
        name: names.max().unwrap_or(0).max("where".len()) + 2,
        value: values
            .map(|v| v.chars().count())
            .filter(|w| *w <= PADDED_MAX)
            .max()
            .unwrap_or(0),
    };
    text.push_str(&format!("# {}\n", relation.meaning));
    let Some(from) = &guessed.from else {
        text.push_str(&format!("# not found\n# [map.{}]\n", relation.name));
        let example = relation.example.as_deref().unwrap_or_default();
        text.push_str(&widths.unknown("from", example, "the table, or what may stand behind FROM"));
        for column in &relation.columns {
            text.push_str(&widths.unknown_column(column));
        }
        return;
    };
    text.push_str(&format!("[map.{}]\n", relation.name));
    text.push_str(&widths.known("from", from));
    match &guessed.filter {
        Some(filter) => text.push_str(&widths.known("where", filter)),
        None => text.push_str(&widths.unknown("where", "", "a condition, where not all rows count")),
    }
    for (name, sql) in &guessed.columns {
        match (sql, relation.column(name)) {
            (Some(sql), _) => text.push_str(&widths.known(name, sql)),
            (None, Some(column)) => text.push_str(&widths.unknown_column(column)),
            (None, None) => {}
        }
    }
}

struct Widths {
    name: usize,
    value: usize,
}

impl Widths {
    fn known(&self, name: &str, sql: &Guessed) -> String {
        let mark = if sql.is_doubtful { "? " } else { "" };
        let value = quoted(&sql.sql);
        let width = self.name;
        // a comment can't stand in a string of several lines
        if value.contains('\n') {
            return format!("# {mark}{}\n{name:width$} = {value}\n", sql.why);
        }
        let padded = self.value;
        format!("{name:width$} = {value:padded$}  # {mark}{}\n", sql.why)
    }

    fn unknown(&self, name: &str, value: &str, meaning: &str) -> String {
        // `# ` takes two
        let width = self.name.saturating_sub(2);
        let value = quoted(value);
        let padded = self.value;
        format!("# {name:width$} = {value:padded$}  # {meaning}\n")
    }

    fn unknown_column(&self, column: &Column) -> String {
        self.unknown(&column.name, "", &format!("{}: {}", column.kind.name(), column.meaning))
    }
}

/// Parameters and graces with their defaults, commented out.
fn options(checks: &[Check]) -> String {
    let short = |check: &Check| check.id.rsplit('.').next().unwrap_or_default().to_string();
    let mut params: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
    for check in checks {
        for (name, value) in &check.params {
            params.entry(name).or_insert((value, Vec::new())).1.push(short(check));
        }
    }
    let mut text = String::new();
    if !params.is_empty() {
        text.push_str("\n# [params]\n");
        for (name, (value, of)) in params {
            text.push_str(&format!("# {name} = {}  # of {}\n", quoted(value), of.join(", ")));
        }
    }
    let mut graces = checks
        .iter()
        .filter_map(|c| Some((short(c), c.grace.as_ref()?)))
        .peekable();
    if graces.peek().is_some() {
        text.push_str("\n# [grace]  # what is younger is pending\n");
        for (name, grace) in graces {
            let time = humantime::format_duration(grace.time).to_string();
            text.push_str(&format!("# {name} = {}\n", quoted(&time)));
        }
    }
    text
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\");
    match text {
        t if t.contains('\n') => format!("\"\"\"\n{}\"\"\"", escaped.replace("\"\"\"", "\"\"\\\"")),
        t if t.contains('"') && !t.contains('\'') => format!("'{t}'"),
        _ => format!("\"{}\"", escaped.replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_toml() {
        for text in [
            "a",
            "state = 'held'",
            "\"Start\"",
            "\"A\" = 'b\\c'",
            "(\n    select '\\', \"\"\"x\"\"\"\n) as t",
        ] {
            let file = format!("a = {}", quoted(text));
            let table: toml::Table = toml::from_str(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(table["a"].as_str(), Some(text));
        }
    }
}
