//! Which of the user's tables and columns a pack's are, as far as their names, types and foreign keys tell.

mod columns;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::catalog::{Catalog, Category, Table, TableColumn};
use super::{Column, Kind, Pack, Relation, gather};
use crate::verify::Check;
use columns::{by_state, column_of};
use tables::{Choices, tables};

pub(super) use columns::literal;

/// A map as far as it could be guessed, in the order of the pack's relations.
#[derive(Clone, Debug, Default)]
pub struct Guess {
    /// One for each relation of the pack.
    pub relations: Vec<GuessedRelation>,
}

/// What a relation of the pack may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuessedRelation {
    /// Its name in the pack.
    pub name: String,
    /// Where it is read from.
    pub from: Option<Guessed>,
    /// Only some of the rows.
    pub filter: Option<Guessed>,
    /// Its columns, in the order of the pack.
    pub columns: Vec<(String, Option<Guessed>)>,
}

/// SQL, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guessed {
    /// The expression.
    pub sql: String,
    /// Why it is this, in a few words.
    pub why: String,
    /// Whether somebody should look at it.
    pub is_doubtful: bool,
}

impl Guessed {
    pub(super) fn sure(sql: impl Into<String>, why: impl Into<String>) -> Guessed {
        Guessed {
            sql: sql.into(),
            why: why.into(),
            is_doubtful: false,
        }
    }

    pub(super) fn doubtful(sql: impl Into<String>, why: impl Into<String>) -> Guessed {
        Guessed {
            is_doubtful: true,
            ..Guessed::sure(sql, why)
        }
    }

    /// Both conditions.
    fn and(self, other: &Guessed) -> Guessed {
        if self.sql.contains(&other.sql) {
            return self;
        }
        Guessed::doubtful(format!("{} and {}", self.sql, other.sql), self.why)
    }
}

impl Guess {
    /// Whether all that a check needs was found.
    pub fn runs(&self, check: &Check) -> bool {
        check.needs.iter().all(|(name, columns)| {
            let relation = self.relations.iter().find(|r| r.name == *name && r.from.is_some());
            relation.is_some_and(|r| columns.iter().all(|column| r.has(column)))
        })
    }
}

impl GuessedRelation {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, sql)| name == column && sql.is_some())
    }
}

/// Guesses a map.
pub fn guess(pack: &Pack, catalog: &Catalog) -> Guess {
    let tables = tables(pack, catalog);
    let relations = pack.relations.iter().map(|relation| match relation.gather {
        Some(what) => gather::gather(what, relation, tables.get("tenant").map(|t| t.table), pack, catalog),
        None => relation_of(relation, pack, &tables, catalog),
    });
    let mut guess = Guess {
        relations: relations.collect(),
    };
    drop_constants_for_what_differs(pack, &mut guess);
    guess
}

fn relation_of(relation: &Relation, pack: &Pack, tables: &Choices<'_>, catalog: &Catalog) -> GuessedRelation {
    let Some(choice) = tables.get(&*relation.name) else {
        let columns = relation.columns.iter().map(|c| (c.name.clone(), None));
        return GuessedRelation {
            name: relation.name.clone(),
            from: None,
            filter: None,
            columns: columns.collect(),
        };
    };
    let deletion = deletion(choice.table);
    // what other rows refer to must be there, or they seem to refer to nothing; then what was deleted is just not active any more
    let refers_here = |r: &&Relation| r.columns.iter().any(|c| c.refers_to.as_ref() == Some(&relation.name));
    let is_referred = pack
        .relations
        .iter()
        .filter(refers_here)
        .any(|r| tables.contains_key(&*r.name));
    let column = |column: &Column| {
        let referred = column.refers_to.as_deref().and_then(|name| tables.get(name));
        let found = column_of(column, choice.table, referred.map(|c| c.table), catalog);
        let found = found.map(|sql| match &deletion {
            Some(deletion) if is_referred && column.kind == Kind::Bool => sql.and(deletion),
            _ => sql,
        });
        found.or_else(|| {
            let constant = column.otherwise.as_deref()?;
            Some(Guessed::doubtful(constant, "there is no such column"))
        })
    };
    GuessedRelation {
        name: relation.name.clone(),
        from: Some(Guessed {
            sql: choice.table.name.clone(),
            why: choice.why.clone(),
            is_doubtful: choice.is_doubtful,
        }),
        columns: relation.columns.iter().map(|c| (c.name.clone(), column(c))).collect(),
        filter: match (
            by_state(&relation.states, choice.table),
            deletion.filter(|_| !is_referred),
        ) {
            (Some(states), Some(deletion)) => Some(states.and(&deletion)),
            (states, deletion) => states.or(deletion),
        },
    }
}

/// Rows that were deleted softly don't count.
fn deletion(table: &Table) -> Option<Guessed> {
    let is_deletion = |c: &&TableColumn| c.word == "deleted_at" && c.category == Category::Time;
    let column = table.columns.iter().find(is_deletion)?;
    Some(Guessed::doubtful(
        format!("{} is null", column.name),
        "what was deleted softly",
    ))
}

/// A constant stands for what nobody tells apart. Where one table does tell it apart, another one's constant would fit nothing.
fn drop_constants_for_what_differs(pack: &Pack, guess: &mut Guess) {
    let is_constant = |relation: &str, column: &str, sql: &Guessed| {
        let column = pack.relation(relation).and_then(|r| r.column(column));
        column.is_some_and(|c| c.kind == Kind::Id && c.otherwise.as_deref() == Some(&sql.sql))
    };
    let mut differing = BTreeSet::new();
    for relation in &guess.relations {
        for (name, sql) in &relation.columns {
            if sql.as_ref().is_some_and(|sql| !is_constant(&relation.name, name, sql)) {
                differing.insert(name.clone());
            }
        }
    }
    for relation in &mut guess.relations {
        let of = relation.name.clone();
        for (name, sql) in &mut relation.columns {
            if differing.contains(name) {
                sql.take_if(|sql| is_constant(&of, name, sql));
            }
        }
    }
}
