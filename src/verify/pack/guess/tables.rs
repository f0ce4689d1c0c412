//! Which of the user's tables a relation is.

use std::collections::{BTreeMap, BTreeSet};

use super::columns::{column_of, ranked};
use crate::source::like;
use crate::verify::pack::catalog::{Catalog, Table};
use crate::verify::pack::{Pack, Relation};

/// The table that a relation is taken to be.
#[derive(Clone, Debug)]
pub(super) struct Choice<'a> {
    pub(super) table: &'a Table,
    pub(super) why: String,
    pub(super) is_doubtful: bool,
}

pub(super) type Choices<'a> = BTreeMap<&'a str, Choice<'a>>;

pub(super) fn tables<'a>(pack: &'a Pack, catalog: &'a Catalog) -> Choices<'a> {
    let mut chosen = Choices::new();
    for relation in &pack.relations {
        let taken: Vec<&str> = chosen.values().map(|c| &*c.table.name).collect();
        if let Some(choice) = by_name(relation, catalog, &taken) {
            chosen.insert(&relation.name, choice);
        }
    }
    // what the columns of these refer to
    for relation in &pack.relations {
        let Some(table) = chosen.get(&*relation.name).map(|c| c.table) else {
            continue;
        };
        for column in &relation.columns {
            let Some(wanted) = column.refers_to.as_deref().and_then(|name| pack.relation(name)) else {
                continue;
            };
            let by_name = ranked(column, table).and_then(|(_, c)| catalog.referred_by(&table.name, &c.name));
            let taken: Vec<&str> = chosen.values().map(|c| &*c.table.name).collect();
            let is_doubtful = by_name.is_none();
            let referred = by_name.or_else(|| the_only_thing(table, &taken, catalog));
            if let Some(referred) = referred.and_then(|name| catalog.table(name))
                && chosen.get(&*wanted.name).is_none_or(|c| c.is_doubtful && !is_doubtful)
            {
                let only = if is_doubtful { ", as to nothing else" } else { "" };
                let why = format!("{} refers to it{only}", table.name);
                let choice = Choice {
                    table: referred,
                    why,
                    is_doubtful: is_doubtful || taken.contains(&&*referred.name),
                };
                chosen.insert(&wanted.name, choice);
            }
        }
    }
    chosen
}

/// Tables of these are who books and buys, not what.
const PEOPLE: [&str; 9] = [
    "*user*",
    "*customer*",
    "*guest*",
    "*member*",
    "*client*",
    "*person*",
    "*people*",
    "*tenant*",
    "*employee*",
];

/// The only table that this one refers to, beside those that are something else already, and people.
fn the_only_thing<'a>(table: &Table, taken: &[&str], catalog: &'a Catalog) -> Option<&'a str> {
    let keys = catalog
        .foreign_keys
        .iter()
        .filter(|k| k.table == table.name && k.columns.len() == 1);
    let tables = keys.filter_map(|k| catalog.table(&k.refers_to));
    let is_thing = |t: &&Table| !taken.contains(&&*t.name) && !PEOPLE.iter().any(|pattern| like(pattern, &t.word));
    let things: BTreeSet<&str> = tables.filter(is_thing).map(|t| &*t.name).collect();
    match (things.first(), things.len()) {
        (Some(only), 1) => Some(only),
        _ => None,
    }
}

/// The table whose name is the likeliest; of several, the one with the most of the columns.
fn by_name<'a>(relation: &Relation, catalog: &'a Catalog, taken: &[&str]) -> Option<Choice<'a>> {
    let mut found: Vec<(bool, std::cmp::Reverse<usize>, usize, &Table)> = Vec::new();
    for table in &catalog.tables {
        let Some(rank) = relation.names.iter().position(|pattern| like(pattern, &table.word)) else {
            continue;
        };
        let columns = relation
            .columns
            .iter()
            .filter(|c| column_of(c, table, None, catalog).is_some());
        let is_taken = taken.contains(&&*table.name);
        found.push((is_taken, std::cmp::Reverse(columns.count()), rank, table));
    }
    found.sort_by(|a, b| (a.0, a.1, a.2, &a.3.name).cmp(&(b.0, b.1, b.2, &b.3.name)));
    let (is_taken, columns, rank, table) = found.first()?;
    // a name that happens to fit says little, when next to none of the columns are there
    if columns.0 * 3 < relation.columns.len() {
        return None;
    }
    let others: Vec<&str> = found[1..].iter().map(|(.., t)| &*t.name).take(3).collect();
    let why = match others.as_slice() {
        [] => "by its name".to_string(),
        others => format!("by its name; or is it {}?", others.join(", ")),
    };
    Some(Choice {
        table,
        why,
        is_doubtful: *is_taken || !others.is_empty() || relation.names[*rank].contains('*'),
    })
}
