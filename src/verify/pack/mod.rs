//! Packs: checks written against canonical names, which a map file gives to the user's tables.
//!
//! A pack is a folder of checks with a `pack.toml`, which says what its relations and columns mean. Each check says in its header which of
//! them it `needs`, so that with half a map half of the checks run.

mod catalog;
mod draft;
mod file;
mod gather;
mod guess;

use serde::Deserialize;
use toml::Spanned;

use super::{Check, suite};
use crate::bundled::{self, Folder, Shelf};
use crate::source::{FileError, Source};

pub use catalog::{Catalog, Category, ForeignKey, Table, TableColumn};
pub use draft::draft;
pub use file::checks;
pub(super) use file::is_map;
pub use guess::{Guess, Guessed, GuessedRelation, guess};

/// The file that makes a folder of checks a pack.
const FILE: &str = "pack.toml";

/// A pack, as its `pack.toml` says.
#[derive(Clone, Debug)]
pub struct Pack {
    /// The folder's name, and the first part of its checks' ids.
    pub name: String,
    /// What it is for, in a line.
    pub title: String,
    /// Checks that are not for everybody.
    pub skip: Option<Skip>,
    /// Its relations, in the order of the file.
    pub relations: Vec<Relation>,
    folder: Folder,
}

/// Checks that are not for everybody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// Their names, without the pack's.
    pub checks: Vec<String>,
    /// For whom they are not.
    pub when: String,
}

/// A canonical relation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its name in the checks.
    pub name: String,
    /// What a row of it is.
    pub meaning: String,
    /// Names that the user's table may have, with `*` for anything; the likeliest first.
    #[serde(default)]
    pub names: Vec<String>,
    /// An example of what it is read from, where no single table of the user's will be it.
    pub example: Option<String>,
    /// Names of the states of its rows, where the user's table has other rows as well.
    #[serde(default)]
    pub states: Vec<String>,
    /// Whether it is many of the user's tables together.
    pub gather: Option<Gather>,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// What of the user's is put together to one relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gather {
    /// All tables that have a tenant: `table_name`, `row_id`, `tenant_id`.
    Tables,
    /// All foreign keys between them: `link_name`, `child_id`, `child_tenant_id`, `parent_id`, `parent_tenant_id`.
    ForeignKeys,
}

/// A canonical column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the checks.
    pub name: String,
    /// What kind of value it holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it means.
    pub meaning: String,
    /// Names that the user's column may have, with `*` for anything; the likeliest first.
    #[serde(default)]
    pub names: Vec<String>,
    /// The relation of the pack whose key it holds.
    pub refers_to: Option<String>,
    /// For a bool: names of states in which it is true, where the user's table has a column of states.
    #[serde(default)]
    pub states: Vec<String>,
    /// For a bool: names of columns that are set when it is true, like `cancelled_at`.
    #[serde(default)]
    pub set: Vec<String>,
    /// For a bool: names of columns that are not set while it is true, like `released_at`.
    #[serde(default)]
    pub unset: Vec<String>,
    /// For a time: which end of a range it is, where the user's table has a range.
    pub bound: Option<Bound>,
    /// What to look at even where a column of a likely name was found.
    pub doubt: Option<String>,
    /// What it may be, where the user has no such column: an SQL expression over no columns.
    pub otherwise: Option<String>,
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Where it begins.
    Lower,
    /// Where it ends.
    Upper,
}

/// What kind of value a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The relation's own key.
    Key,
    /// Something that is compared for equality only: an id, a name, a hash.
    Id,
    /// Yes or no.
    Bool,
    /// A number.
    Number,
    /// A `timestamptz`, `timestamp` or `date`.
    Time,
    /// The name of a state.
    State,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::Id => "id",
            Kind::Bool => "bool",
            Kind::Number => "number",
            Kind::Time => "time",
            Kind::State => "state",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackFile {
    title: String,
    skip: Option<Skip>,
    #[serde(rename = "relation", default)]
    relations: Vec<Spanned<Relation>>,
}

impl Pack {
    /// Reads the pack in a folder; none when it has no `pack.toml`.
    ///
    /// # Errors
    /// [`FileError`] when the file can't be read or is wrong.
    pub fn read(folder: Folder) -> Result<Option<Pack>, FileError> {
        let Some(source) = folder.read(FILE)? else {
            return Ok(None);
        };
        let file: PackFile = source.toml(&source.text)?;
        for relation in &file.relations {
            let names = relation.get_ref().columns.iter().map(|c| &c.name);
            if let Some(name) = names.chain([&relation.get_ref().name]).find(|n| !is_name(n)) {
                let error = source.error(
                    relation.span(),
                    format!("`{name}` can't be the name of a column or relation"),
                );
                return Err(error
                    .help("take lower-case letters, digits and underscores; not `from` or `where`")
                    .into());
            }
        }
        let path = match &folder {
            Folder::Disk(path) => path.to_string_lossy().into_owned(),
            Folder::Bundled(_, path) => path.clone(),
        };
        Ok(Some(Pack {
            name: path
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_string(),
            title: file.title,
            skip: file.skip,
            relations: file.relations.into_iter().map(Spanned::into_inner).collect(),
            folder,
        }))
    }

    /// The bundled packs that take a map, by name. (Some folders below `packs` have fixed tables, and no `pack.toml`.)
    ///
    /// # Errors
    /// [`FileError`] when one of them is wrong.
    pub fn bundled() -> Result<Vec<Pack>, FileError> {
        let mut packs = Vec::new();
        for folder in bundled::check_folders() {
            packs.extend(Pack::read(Folder::Bundled(Shelf::Checks, folder))?);
        }
        Ok(packs)
    }

    /// Its checks, as their files say: without a map, but with defaults of the folders that the map is in.
    ///
    /// # Errors
    /// [`FileError`] when one of them is wrong.
    pub fn checks(&self, suites: &[Source]) -> Result<Vec<Check>, FileError> {
        suite::checks_of(&self.folder, suites)
    }

    /// A relation by its name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|r| r.name == name)
    }

    /// The file that a message about it names.
    fn source(&self) -> Result<Option<Source>, FileError> {
        self.folder.read(FILE)
    }
}

impl Relation {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Whether it needs no quotes in SQL, as far as its letters tell, and isn't a word of the map file's own.
fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !["from", "where"].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn packs_and_their_checks_speak_of_the_same_names() {
        let packs = Pack::bundled().unwrap();
        let names: Vec<&str> = packs.iter().map(|p| &*p.name).collect();
        assert_eq!(
            names,
            ["booking", "inventory", "ledger", "payments", "queue", "saga", "tenants"]
        );
        for pack in packs {
            let checks = pack.checks(&[]).unwrap();
            let mut used = BTreeSet::new();
            for check in &checks {
                assert!(!check.needs.is_empty(), "{} needs nothing", check.id);
                assert!(check.remedy.is_some() && !check.tags.is_empty(), "{}", check.id);
                for (relation, columns) in &check.needs {
                    for column in columns {
                        let is_there = pack.relation(relation).is_some_and(|r| r.column(column).is_some());
                        assert!(is_there, "{} needs {relation}.{column}", check.id);
                        used.insert((relation.clone(), column.clone()));
                    }
                }
            }
            for relation in &pack.relations {
                assert!(relation.gather.is_some() || !relation.names.is_empty() || relation.example.is_some());
                for column in &relation.columns {
                    let is_used = used.contains(&(relation.name.clone(), column.name.clone()));
                    assert!(
                        is_used,
                        "no check of {} needs {}.{}",
                        pack.name, relation.name, column.name
                    );
                    let refers = column.refers_to.as_ref();
                    assert!(refers.is_none_or(|r| pack.relation(r).is_some()), "{refers:?}");
                }
            }
            for name in pack.skip.iter().flat_map(|s| &s.checks) {
                assert!(checks.iter().any(|c| c.id == format!("{}.{name}", pack.name)), "{name}");
            }
        }
    }

    #[test]
    fn names_are_sql_without_quotes() {
        for (name, is) in [
            ("starts_at", true),
            ("a1", true),
            ("1a", false),
            ("A", false),
            ("from", false),
            ("", false),
        ] {
            assert_eq!(is_name(name), is, "{name}");
        }
    }

    /// What stands between the marks of docs/packs.md.
    fn tables() -> String {
        let mut text = String::new();
        for pack in Pack::bundled().unwrap() {
            let checks = pack.checks(&[]).unwrap();
            text.push_str(&format!(
                "### {}\n\n{}. {} checks.\n\n",
                pack.name,
                pack.title,
                checks.len()
            ));
            text.push_str("| check | holds when it finds nothing | | reads |\n|---|---|---|---|\n");
            for check in checks {
                let short = check.id.split('.').nth(1).unwrap();
                let reads: Vec<String> = check.needs.keys().map(|r| format!("`{r}`")).collect();
                let severity = check.severity.name();
                text.push_str(&format!(
                    "| `{short}` | {} | {severity} | {} |\n",
                    check.title,
                    reads.join(", ")
                ));
            }
            text.push('\n');
        }
        text
    }

    #[test]
    fn the_documentation_has_every_check() {
        let page = include_str!("../../../docs/packs.md");
        let (_, rest) = page.split_once("<!-- packs -->\n").unwrap();
        let (documented, _) = rest.split_once("<!-- /packs -->").unwrap();
        let tables = tables();
        assert!(
            documented == tables,
            "put this between the marks of docs/packs.md:\n{tables}"
        );
    }

    #[test]
    fn the_documented_map_and_pack_are_right() {
        let page = include_str!("../../../docs/packs.md");
        let block = |nth: usize, kind: &str| {
            let begin = format!("```{kind}\n");
            let text = page.split(&begin).nth(nth).unwrap();
            text.split("```").next().unwrap().to_string()
        };
        let map = Source::new("booking.toml", block(1, "toml"));
        let mapped = super::checks(&map, &[]).unwrap();
        let runs = |id: &str| mapped.iter().any(|c| c.id == id && c.missing.is_none());
        assert!(runs("berths.overlap") && !runs("berths.two_in_a_slot"));

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("my-pack")).unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("my-pack/pack.toml", block(2, "toml"));
        write("my-pack/lost.sql", block(1, "sql"));
        let map = "pack = './my-pack'\n[map.parcel]\nfrom = 'p'\nparcel_id = 'id'\nis_lost = 'lost'";
        write("map.toml", map.into());
        let mapped = crate::verify::find("map.toml", dir.path()).unwrap();
        assert_eq!(
            (mapped.len(), &*mapped[0].id, &mapped[0].missing),
            (1, "my-pack.lost", &None)
        );
    }
}
