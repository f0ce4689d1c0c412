//! What the catalog of the user's database says that may help to fill in a map.

use tokio_postgres::Client;

/// Tables and views, and how they refer to one another.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In the order of their names.
    pub tables: Vec<Table>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
}

/// A table or view. Names are quoted where SQL wants it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// With its schema.
    pub name: String,
    /// In small letters with underscores, without its schema: what patterns are compared with.
    pub word: String,
    /// In the table's order.
    pub columns: Vec<TableColumn>,
    /// The columns of its primary key.
    pub key: Vec<String>,
}

/// A column of it.
#[derive(Clone, Debug, Default)]
pub struct TableColumn {
    /// Quoted where SQL wants it.
    pub name: String,
    /// In small letters with underscores.
    pub word: String,
    /// What kind of type it has.
    pub category: Category,
    /// The values that it can have, as an enum or a check constraint says.
    pub allowed: Vec<String>,
    /// Values that it was seen to have.
    pub seen: Vec<String>,
}

/// Kinds of types, as `pg_type.typcategory` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Category {
    /// `boolean`.
    Bool,
    /// Integers, `numeric`, floats.
    Number,
    /// `date`, `timestamp`, `timestamptz`, `time`.
    Time,
    /// `text` and the like.
    Text,
    /// An enum.
    Enum,
    /// A range.
    Range,
    /// Any other: `uuid`, `jsonb`, arrays.
    #[default]
    Other,
}

/// A foreign key.
#[derive(Clone, Debug, Default)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that refers.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table that it refers to.
    pub refers_to: String,
    /// The columns there, in the same order.
    pub referred: Vec<String>,
}

impl Catalog {
    /// Reads it.
    ///
    /// # Errors
    /// The server's, or when the connection is lost.
    pub async fn read(client: &Client) -> Result<Catalog, tokio_postgres::Error> {
        let mut catalog = Catalog::default();
        for row in client.query(include_str!("catalog.sql"), &[]).await? {
            let name: String = row.get("table");
            if catalog.tables.last().is_none_or(|t| t.name != name) {
                catalog.tables.push(Table {
                    name,
                    word: word(row.get("table_name")),
                    ..Table::default()
                });
            }
            let Some(table) = catalog.tables.last_mut() else {
                continue;
            };
            let column: String = row.get("column");
            table.key = row.get("key");
            let mut allowed: Vec<String> = row.get("labels");
            for condition in row.get::<_, Vec<String>>("conditions") {
                allowed.extend(literals(&condition));
            }
            table.columns.push(TableColumn {
                name: column,
                word: word(row.get("column_name")),
                category: category(row.get("category")),
                allowed,
                seen: row.get("common"),
            });
        }
        for row in client.query(include_str!("foreign_keys.sql"), &[]).await? {
            catalog.foreign_keys.push(ForeignKey {
                name: row.get("name"),
                table: row.get("table"),
                columns: row.get("columns"),
                refers_to: row.get("refers_to"),
                referred: row.get("referred"),
            });
        }
        Ok(catalog)
    }

    /// A table by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// What a column alone refers to: the table.
    pub fn referred_by(&self, table: &str, column: &str) -> Option<&str> {
        let mut keys = self.foreign_keys.iter();
        let key = keys.find(|k| k.table == table && k.columns == [column])?;
        Some(&key.refers_to)
    }
}

impl Table {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

fn category(code: &str) -> Category {
    match code {
        "B" => Category::Bool,
        "N" => Category::Number,
        "D" => Category::Time,
        "S" => Category::Text,
        "E" => Category::Enum,
        "R" => Category::Range,
        _ => Category::Other,
    }
}

/// `startsAt` and `"Starts At"` as `starts_at`.
fn word(name: &str) -> String {
    let mut word = String::new();
    let mut was_small = false;
    for c in name.chars() {
        if c.is_uppercase() && was_small {
            word.push('_');
        }
        was_small = c.is_lowercase() || c.is_ascii_digit();
        match c {
            ' ' | '-' => word.push('_'),
            _ => word.extend(c.to_lowercase()),
        }
    }
    word
}

/// The quoted strings of a condition: the states in `CHECK ((state = ANY (ARRAY['held'::text, 'booked'::text])))`.
fn literals(condition: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = condition;
    while let Some((_, begun)) = rest.split_once('\'') {
        let mut literal = String::new();
        let mut chars = begun.char_indices().peekable();
        let mut end = begun.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                    literal.push('\'');
                    chars.next();
                }
                '\'' => {
                    end = at + 1;
                    break;
                }
                c => literal.push(c),
            }
        }
        literals.push(literal);
        rest = &begun[end..];
    }
    literals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        for (name, expected) in [
            ("starts_at", "starts_at"),
            ("startsAt", "starts_at"),
            ("BookingItem", "booking_item"),
            ("Room No", "room_no"),
            ("URL", "url"),
        ] {
            assert_eq!(word(name), expected);
        }
    }

    #[test]
    fn states_are_read_from_a_condition() {
        let condition = "CHECK ((state = ANY (ARRAY['held'::text, 'guest''s'::text])))";
        assert_eq!(literals(condition), ["held", "guest's"]);
        assert_eq!(literals("CHECK ((n > 0))"), [""; 0]);
        assert_eq!(literals("open 'end"), ["end"]);
    }
}
