//! SQL with `:name` parameters -> SQL with `$n`, and back.
//!
//! A colon starts a parameter only where psql would see one: not inside quotes, dollar quotes or comments,
//! and not in `::type`.

use std::collections::HashMap;
use std::ops::Range;

use crate::source::{self, is_name_byte, opaque};

/// A statement whose parameters have been numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// As written, with `:name`.
    pub text: String,
    /// As sent, with `$1`, `$2`, ...; a name used twice has one number.
    pub sql: String,
    /// The name behind `$1`, `$2`, ...
    pub names: Vec<String>,
    /// Where each parameter stands in `text` and in `sql`, in their order.
    places: Vec<(Range<usize>, Range<usize>)>,
}

impl Statement {
    /// Finds the parameters.
    pub fn parse(text: &str) -> Statement {
        let bytes = text.as_bytes();
        let mut sql = String::with_capacity(text.len());
        let mut names: Vec<String> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut places = Vec::new();
        let mut at = 0;
        let mut copied = 0;
        while at < bytes.len() {
            if let Some(end) = opaque(text, at) {
                at = end;
                continue;
            }
            if bytes[at..].starts_with(b"::") {
                at += 2;
                continue;
            }
            let name_end = at + 1 + name_len(&bytes[at + 1..]);
            if bytes[at] != b':' || name_end == at + 1 {
                at += 1;
                continue;
            }
            let name = &text[at + 1..name_end];
            let number = *numbers.entry(name).or_insert_with(|| {
                names.push(name.to_string());
                names.len()
            });
            sql.push_str(&text[copied..at]);
            let start = sql.len();
            sql.push_str(&format!("${number}"));
            places.push((at..name_end, start..sql.len()));
            at = name_end;
            copied = at;
        }
        sql.push_str(&text[copied..]);
        Statement {
            text: text.to_string(),
            sql,
            names,
            places,
        }
    }

    /// The byte range in `text` of the parameter's first use, colon included.
    pub fn first_use(&self, name: &str) -> Option<Range<usize>> {
        self.places
            .iter()
            .map(|(in_text, _)| in_text.clone())
            .find(|range| self.text[range.start + 1..range.end] == *name)
    }

    /// The byte offset in `text` of a character position (1-based, as PostgreSQL counts) in `sql`.
    pub fn offset_of(&self, position: u32) -> usize {
        let offset = source::offset_of(&self.sql, position);
        let mut shift = 0isize;
        for (in_text, in_sql) in &self.places {
            if offset < in_sql.start {
                break;
            }
            if offset < in_sql.end {
                return in_text.start;
            }
            shift = in_text.end as isize - in_sql.end as isize;
        }
        offset.saturating_add_signed(shift).min(self.text.len())
    }
}

fn name_len(rest: &[u8]) -> usize {
    match rest.first() {
        Some(b) if is_name_byte(*b) && !b.is_ascii_digit() => rest.iter().take_while(|b| is_name_byte(**b)).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, sql: &str, names: &[&str]) {
        let statement = Statement::parse(text);
        assert_eq!(statement.sql, sql);
        assert_eq!(statement.names, names);
    }

    #[test]
    fn names_become_numbers_once_each() {
        check("select :a, :b, :a", "select $1, $2, $1", &["a", "b"]);
        check(
            "f(:room_type_id,array[:d]::date[])",
            "f($1,array[$2]::date[])",
            &["room_type_id", "d"],
        );
    }

    #[test]
    fn casts_slices_and_quotes_are_left_alone() {
        for text in [
            "select '1'::int, x[1:2]",
            "select ':a', ':it''s :b'",
            r"select E'\':a'",
            "select \":a\", $$ :a $$, $t$ :a $$ :b $t$",
            "select 1 -- :a",
            "/* :a /* :b */ :c */ select 1",
            "select 'open :a",
            "$open$ :a",
            ":",
            "a:=1",
            "",
        ] {
            check(text, text, &[]);
        }
        check("select 'x' :a", "select 'x' $1", &["a"]);
        check("select a$b$ :a", "select a$b$ $1", &["a"]);
        check("select name':a' :b", "select name':a' $1", &["b"]);
    }

    #[test]
    fn server_positions_map_back() {
        let statement = Statement::parse("select :long_name, nope(:b)");
        let position = statement.sql.find("nope").unwrap() as u32 + 1;
        assert_eq!(statement.offset_of(position), statement.text.find("nope").unwrap());
        let position = statement.sql.find("$2").unwrap() as u32 + 1;
        assert_eq!(statement.offset_of(position), statement.text.find(":b").unwrap());
        assert_eq!(statement.offset_of(9999), statement.text.len());
        assert_eq!(statement.first_use("b"), Some(24..26));
    }
}
