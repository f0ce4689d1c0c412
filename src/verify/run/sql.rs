//! The statement that looks at a check's rows: the check inside, and around it what keeps its result small.
//!
//! ```sql
//! with found (c1, c2) as materialized (
//! <the check>
//! )
//! select <is it young>, <c1 and c2 of the first rows, as text and cut>
//! from (select *, row_number() over () as n from found limit <cap + 1>) as numbered
//! ```
//!
//! - `materialized` lets the check be planned for all of its rows, and with parallel workers. A check mostly finds nothing, and a plan for the
//!   first few rows (`LIMIT`, a cursor) is then the slow one. It is still read row by row: a million rows found are not collected.
//! - The order of the check's own `ORDER BY` stays.
//! - Values are made text and cut on the server: nothing large comes over the wire, and masked ones never do.

use std::fmt::Write;
use std::time::Duration;

use crate::verify::{Check, Grace};

/// Characters of a value, in a row with few columns; and of all values of a row together.
const VALUE_MAX: usize = 4_000;
const ROW_MAX: usize = 200_000;
/// Of a value, however many columns there are.
const VALUE_MIN: usize = 100;

/// How a check's columns are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    /// Of `names`: those of the key, in its order.
    pub(super) key: Vec<usize>,
    /// Of `names`: those that never leave the server.
    pub(super) mask: Vec<usize>,
    pub(super) grace: Option<usize>,
}

impl Columns {
    /// Finds the columns that the check speaks of.
    pub(super) fn of(check: &Check, grace: Option<&Grace>, names: Vec<String>) -> Result<Columns, String> {
        let place = |what: &str, name: &str| {
            let at = names.iter().position(|column| column == name);
            at.ok_or_else(|| {
                let known = crate::source::quoted(&names);
                format!("the {what} column `{name}` is not in its result, which has {known}")
            })
        };
        let all = |what: &str, wanted: &[String]| wanted.iter().map(|name| place(what, name)).collect::<Result<_, _>>();
        let (key, mask) = (all("key", &check.key)?, all("masked", &check.mask)?);
        let grace = grace.map(|grace| place("grace", &grace.column)).transpose()?;
        Ok(Columns {
            names,
            key,
            mask,
            grace,
        })
    }

    /// Those whose values are asked for.
    pub(super) fn shown(&self) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(|i| !self.mask.contains(i))
    }

    /// Characters that are left of each value.
    pub(super) fn value_max(&self) -> usize {
        (ROW_MAX / self.names.len().max(1)).clamp(VALUE_MIN, VALUE_MAX)
    }

    /// Of a key the whole value counts, so one that is too long gets a hash behind what is left of it.
    fn key_text(&self, i: usize) -> String {
        let (column, max) = (column(i), self.value_max());
        format!(
            "case when octet_length({column}::text) > {max} then left({column}::text, {}) || '...' || md5({column}::text) \
             else {column}::text end",
            max - 40
        )
    }

    fn text(&self, i: usize) -> String {
        match self.key.contains(&i) {
            true => self.key_text(i),
            // one more than is shown tells that it was cut
            false => format!("left({}::text, {})", column(i), self.value_max() + 1),
        }
    }

    /// The key as one value to compare by.
    fn key_json(&self) -> String {
        let parts: Vec<String> = self.key.iter().map(|i| self.key_text(*i)).collect();
        format!("jsonb_build_array({})", parts.join(", "))
    }

    fn list(&self) -> String {
        (0..self.names.len()).map(column).collect::<Vec<_>>().join(", ")
    }
}

fn column(i: usize) -> String {
    format!("c{}", i + 1)
}

/// What is asked of a check's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The check's statement.
    pub(super) body: &'a str,
    pub(super) columns: &'a Columns,
    pub(super) grace: Option<Duration>,
    /// Rows of which the values are wanted.
    pub(super) sample: u64,
    /// Rows that come at the most, of those that are young and of the others.
    pub(super) rows_max: u64,
    /// Whether the keys of all that come are wanted.
    pub(super) all_keys: bool,
    /// Whether only rows with known keys count.
    pub(super) only_known: bool,
}

/// Whether `$1` is the snapshot's time, and whether the known keys come as the last parameter.
fn known_keys(asked: &Asked<'_>) -> String {
    let number = if asked.grace.is_some() { 2 } else { 1 };
    match asked.only_known {
        true => format!(
            "\nwhere {} in (select jsonb_array_elements(${number}::jsonb))",
            asked.columns.key_json()
        ),
        false => String::new(),
    }
}

/// A young row is one whose time is after the snapshot's less the grace; no time, or none that ends, is not young.
fn young(asked: &Asked<'_>) -> Option<String> {
    let (at, grace) = (column(asked.columns.grace?), asked.grace?);
    Some(format!(
        "coalesce(isfinite({at}) and {at} > $1::timestamptz - interval '{} s', false)",
        grace.as_secs_f64()
    ))
}

/// The rows: whether each is young, and the values of the first ones.
pub(super) fn rows(asked: &Asked<'_>) -> String {
    let (columns, limit) = (asked.columns, asked.rows_max);
    let mut sql = found(asked);
    let known = known_keys(asked);
    let inner = match young(asked) {
        None => {
            sql.push_str("select false");
            format!("select *, row_number() over () as n from found{known}\nlimit {limit}")
        }
        Some(young) => {
            sql.push_str("select young");
            format!(
                "select * from (\n\
                 select *, case when young then count(*) filter (where young) over seen\n\
                 else count(*) filter (where not young) over seen end as n\n\
                 from (select *, {young} as young from found{known}) as aged\n\
                 window seen as (rows unbounded preceding)\n) as counted where n <= {limit}"
            )
        }
    };
    for i in columns.shown() {
        let text = columns.text(i);
        let _ = match asked.all_keys && columns.key.contains(&i) {
            true => write!(sql, ",\n{text}"),
            false => write!(sql, ",\ncase when n <= {} then {text} end", asked.sample),
        };
    }
    let _ = write!(sql, "\nfrom (\n{inner}\n) as numbered");
    sql
}

/// How many rows there are that are not young, and how many that are.
pub(super) fn count(asked: &Asked<'_>) -> String {
    let known = known_keys(asked);
    let body = asked.body;
    let columns = asked.columns.list();
    // aggregated at once: nothing needs to be materialized
    let from = format!("from (\n{body}\n) as found ({columns}){known}");
    match young(asked) {
        None => format!("select count(*), 0::int8 {from}"),
        Some(young) => format!("select count(*) filter (where not {young}), count(*) filter (where {young}) {from}"),
    }
}

fn found(asked: &Asked<'_>) -> String {
    format!(
        "with found ({}) as materialized (\n{}\n)\n",
        asked.columns.list(),
        asked.body
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(n: usize) -> Columns {
        Columns {
            names: (0..n).map(|i| format!("n{i}")).collect(),
            key: vec![0],
            mask: vec![1],
            grace: None,
        }
    }

    #[test]
    fn masked_columns_are_not_in_the_statement() {
        let columns = columns(3);
        let asked = Asked {
            body: "select 1, 2, 3",
            columns: &columns,
            grace: None,
            sample: 5,
            rows_max: 11,
            all_keys: false,
            only_known: false,
        };
        let sql = rows(&asked);
        let shown = sql.split_once(")\nselect").unwrap().1;
        assert!(
            shown.contains("c1") && !shown.contains("c2") && shown.contains("c3"),
            "{sql}"
        );
    }

    #[test]
    fn a_row_is_bounded_however_many_columns_it_has() {
        assert_eq!(columns(1).value_max(), VALUE_MAX);
        assert!(columns(1600).value_max() * 1600 <= ROW_MAX);
    }
}
