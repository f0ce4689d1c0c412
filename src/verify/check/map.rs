//! The user's tables under the names that a pack's checks use.

use std::ops::Range;

use crate::source::Source;

/// A `with` clause put before a check's statement, and where its expressions were read.
///
/// Each relation is made in two steps, because the user's own tables may be called as the pack's are:
///
/// ```sql
/// with
/// db_race_booking as not materialized (select (id) as booking_id from public.reservations),
/// booking as not materialized (select * from db_race_booking)
/// ```
///
/// No name of the first steps hides a table that the user's SQL speaks of. `not materialized` folds them into the check, so that it uses the
/// indexes of the user's tables.
#[derive(Clone, Debug)]
pub struct Map {
    file: Source,
    text: String,
    pieces: Vec<Piece>,
}

/// SQL of the user's, as part of the text.
#[derive(Clone, Debug)]
struct Piece {
    /// `booking.ends_at`.
    name: String,
    inside: Range<usize>,
    /// Where it begins in the file: the value, quotes included.
    file_offset: usize,
}

/// A value of a map file, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verify) struct Expression {
    /// The SQL.
    pub(in crate::verify) sql: String,
    /// Its span in the file, quotes included.
    pub(in crate::verify) span: Range<usize>,
}

/// A relation as a check wants it.
#[derive(Clone, Debug)]
pub(in crate::verify) struct MappedRelation<'a> {
    pub(in crate::verify) name: &'a str,
    pub(in crate::verify) from: &'a Expression,
    pub(in crate::verify) filter: Option<&'a Expression>,
    pub(in crate::verify) columns: Vec<(&'a str, &'a Expression)>,
}

impl Map {
    pub(in crate::verify) fn new(file: &Source, relations: &[MappedRelation<'_>]) -> Map {
        let mut map = Map {
            file: file.clone(),
            text: String::new(),
            pieces: Vec::new(),
        };
        for (i, relation) in relations.iter().enumerate() {
            let name = relation.name;
            map.text.push_str(if i == 0 { "with\n" } else { ",\n" });
            map.text
                .push_str(&format!("db_race_{name} as not materialized (\nselect"));
            for (i, (column, expression)) in relation.columns.iter().enumerate() {
                map.text.push_str(if i == 0 { "\n(" } else { ",\n(" });
                map.paste(&format!("{name}.{column}"), expression);
                // on a line of its own: the expression may end in a comment
                map.text.push_str(&format!("\n) as {column}"));
            }
            map.text.push_str("\nfrom ");
            map.paste(&format!("{name}.from"), relation.from);
            if let Some(filter) = relation.filter {
                map.text.push_str("\nwhere (");
                map.paste(&format!("{name}.where"), filter);
                map.text.push_str("\n)");
            }
            map.text.push_str("\n)");
        }
        for relation in relations {
            let name = relation.name;
            map.text
                .push_str(&format!(",\n{name} as not materialized (select * from db_race_{name})"));
        }
        map
    }

    fn paste(&mut self, name: &str, expression: &Expression) {
        let begin = self.text.len();
        self.text.push_str(&expression.sql);
        self.pieces.push(Piece {
            name: name.to_string(),
            inside: begin..self.text.len(),
            file_offset: expression.span.start,
        });
    }

    /// The clause.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a byte offset in the text leads: the line in the map file.
    pub(super) fn place_of(&self, offset: usize) -> String {
        // an error at the end of an expression is told behind it
        let piece = self.pieces.iter().rev().find(|p| p.inside.start <= offset);
        let Some(piece) = piece else {
            return format!("in {}", self.file.name);
        };
        let before = &self.text[piece.inside.start..offset.min(piece.inside.end)];
        let value = &self.file.text[piece.file_offset..];
        let is_below = ["\"\"\"\n", "'''\n", "\"\"\"\r\n", "'''\r\n"]
            .iter()
            .any(|quotes| value.starts_with(quotes));
        let line = self.file.line(piece.file_offset) + usize::from(is_below) + before.matches('\n').count();
        format!("{} line {line}, in the map of {}", self.file.name, piece.name)
    }
}
