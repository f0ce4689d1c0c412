//! What a column of the pack may be in a table.

use super::Guessed;
use crate::source::like;
use crate::verify::pack::catalog::{Catalog, Category, Table, TableColumn};
use crate::verify::pack::{Bound, Column, Kind};

/// What a column of the pack may be in this table; `referred` is the table that it should refer to.
pub(super) fn column_of(
    column: &Column,
    table: &Table,
    referred: Option<&Table>,
    catalog: &Catalog,
) -> Option<Guessed> {
    if let (Kind::Key, [key]) = (column.kind, table.key.as_slice()) {
        return Some(Guessed::sure(key, "the primary key"));
    }
    if let Some(referred) = referred {
        let mut refers = table
            .columns
            .iter()
            .filter(|c| catalog.referred_by(&table.name, &c.name) == Some(&referred.name));
        if let (Some(one), None) = (refers.next(), refers.next()) {
            return Some(Guessed::sure(&*one.name, format!("refers to {}", referred.name)));
        }
    }
    if let Some((rank, found)) = ranked(column, table) {
        // a fallback: it may well be something else here
        let is_vague = column.names[rank].contains('*')
            || (["created_at", "id"].contains(&&*found.word) && found.word != column.name);
        return Some(match (&column.doubt, is_vague) {
            (Some(doubt), _) => Guessed::doubtful(&*found.name, doubt),
            (None, true) => Guessed::doubtful(&*found.name, "by its name and type"),
            (None, false) => Guessed::sure(&*found.name, "by its name and type"),
        });
    }
    match (column.kind, column.bound) {
        (Kind::Bool, _) => by_state(&column.states, table).or_else(|| by_time(column, table)),
        (Kind::Time, Some(bound)) => {
            let mut ranges = table.columns.iter().filter(|c| c.category == Category::Range);
            let (range, None) = (ranges.next()?, ranges.next()) else {
                return None;
            };
            Some(Guessed::sure(
                format!("{}({})", bound.function(), range.name),
                "of the range",
            ))
        }
        _ => None,
    }
}

/// The column with the likeliest name, of a type that can be it; with the rank of its pattern.
pub(super) fn ranked<'a>(column: &Column, table: &'a Table) -> Option<(usize, &'a TableColumn)> {
    let fits = |c: &TableColumn| match column.kind {
        Kind::Key | Kind::Id => true,
        Kind::Bool => c.category == Category::Bool,
        Kind::Number => c.category == Category::Number,
        Kind::Time => c.category == Category::Time,
        Kind::State => matches!(c.category, Category::Text | Category::Enum),
    };
    let ranks = table.columns.iter().filter(|c| fits(c)).filter_map(|c| {
        let rank = column.names.iter().position(|pattern| like(pattern, &c.word))?;
        Some((rank, c))
    });
    ranks.min_by_key(|(rank, _)| *rank)
}

/// `state in ('held', 'confirmed')`, for a column of states of which some are meant.
pub(super) fn by_state(states: &[String], table: &Table) -> Option<Guessed> {
    if states.is_empty() {
        return None;
    }
    let is_state = |c: &&TableColumn| {
        ["status", "state", "*_status", "*_state", "kind", "type", "*_type"]
            .iter()
            .any(|pattern| like(pattern, &c.word))
    };
    for state in table.columns.iter().filter(is_state) {
        let is_known = !state.allowed.is_empty();
        let known = if is_known { &state.allowed } else { &state.seen };
        let is_meant = |value: &&String| states.iter().any(|pattern| like(pattern, &value.to_lowercase()));
        let meant: Vec<String> = known.iter().filter(is_meant).map(|v| literal(v)).collect();
        let condition = match meant.as_slice() {
            [] => continue,
            [one] => format!("{} = {one}", state.name),
            many => format!("{} in ({})", state.name, many.join(", ")),
        };
        let others: Vec<String> = known.iter().filter(|v| !is_meant(v)).map(|v| literal(v)).collect();
        let others = match others.as_slice() {
            [] => "all of its states".to_string(),
            others => format!("not {}", others.join(", ")),
        };
        let from = if is_known {
            ""
        } else {
            "; states as seen, there may be more"
        };
        return Some(Guessed::doubtful(condition, format!("{others}{from}")));
    }
    None
}

/// `cancelled_at is not null`, for a bool that has left a time.
fn by_time(column: &Column, table: &Table) -> Option<Guessed> {
    let first = |names: &[String]| {
        let of = |name: &String| table.columns.iter().find(|c| like(name, &c.word));
        names.iter().find_map(of)
    };
    if let Some(set) = first(&column.set) {
        return Some(Guessed::doubtful(
            format!("{} is not null", set.name),
            "set when it is so",
        ));
    }
    let is_unset = |c: &&TableColumn| column.unset.iter().any(|name| like(name, &c.word));
    let unset: Vec<String> = table
        .columns
        .iter()
        .filter(is_unset)
        .map(|c| format!("{} is null", c.name))
        .collect();
    match unset.as_slice() {
        [] => None,
        unset => Some(Guessed::doubtful(unset.join(" and "), "set when it is so no more")),
    }
}

impl Bound {
    fn function(self) -> &'static str {
        match self {
            Bound::Lower => "lower",
            Bound::Upper => "upper",
        }
    }
}

/// A string as SQL.
pub(in crate::verify::pack) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
