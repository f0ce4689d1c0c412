//! Which of the user's tables and columns a pack's are, as far as their names, types and foreign keys tell.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Category, Table, TableColumn};
use super::{Bound, Column, Kind, Pack, Relation, gather};
use crate::source::like;
use crate::verify::Check;

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
}

impl Guessed {
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

/// The table that a relation is taken to be.
#[derive(Clone, Debug)]
struct Choice<'a> {
    table: &'a Table,
    why: String,
    is_doubtful: bool,
}

type Choices<'a> = BTreeMap<&'a str, Choice<'a>>;

fn tables<'a>(pack: &'a Pack, catalog: &'a Catalog) -> Choices<'a> {
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
                    is_doubtful,
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
        filter: deletion.filter(|_| !is_referred),
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

/// What a column of the pack may be in this table; `referred` is the table that it should refer to.
fn column_of(column: &Column, table: &Table, referred: Option<&Table>, catalog: &Catalog) -> Option<Guessed> {
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
        (Kind::Bool, _) => by_state(column, table).or_else(|| by_time(column, table)),
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
fn ranked<'a>(column: &Column, table: &'a Table) -> Option<(usize, &'a TableColumn)> {
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
fn by_state(column: &Column, table: &Table) -> Option<Guessed> {
    if column.states.is_empty() {
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
        let is_meant = |value: &&String| column.states.iter().any(|pattern| like(pattern, &value.to_lowercase()));
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

impl Bound {
    fn function(self) -> &'static str {
        match self {
            Bound::Lower => "lower",
            Bound::Upper => "upper",
        }
    }
}

/// A string as SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::pack::ForeignKey;

    /// `id*:other state:enum(held,cancelled)`: columns with their categories; `*` is for the primary key.
    fn table(name: &str, columns: &str) -> Table {
        let mut table = Table {
            name: format!("public.{name}"),
            word: name.into(),
            ..Table::default()
        };
        for column in columns.split(' ') {
            let (name, kind) = column.split_once(':').unwrap();
            let (kind, values) = kind.trim_end_matches(')').split_once('(').unwrap_or((kind, ""));
            if name.ends_with('*') {
                table.key.push(name.trim_end_matches('*').into());
            }
            let name = name.trim_end_matches('*');
            table.columns.push(TableColumn {
                name: name.into(),
                word: name.into(),
                category: match kind {
                    "bool" => Category::Bool,
                    "number" => Category::Number,
                    "time" => Category::Time,
                    "text" => Category::Text,
                    "enum" => Category::Enum,
                    "range" => Category::Range,
                    _ => Category::Other,
                },
                allowed: values.split(',').filter(|v| !v.is_empty()).map(String::from).collect(),
                seen: Vec::new(),
            });
        }
        table
    }

    fn key(table: &str, column: &str, refers_to: &str) -> ForeignKey {
        ForeignKey {
            name: format!("{table}_{column}_fkey"),
            table: format!("public.{table}"),
            columns: vec![column.into()],
            refers_to: format!("public.{refers_to}"),
            referred: vec!["id".into()],
        }
    }

    fn pack(name: &str) -> Pack {
        Pack::bundled().unwrap().into_iter().find(|p| p.name == name).unwrap()
    }

    /// What was guessed: `booking.starts_at = lower(during)`, with ` ?` behind where it is doubtful.
    fn lines(pack: &str, tables: Vec<Table>, foreign_keys: Vec<ForeignKey>) -> Vec<String> {
        let guess = guess(&self::pack(pack), &Catalog { tables, foreign_keys });
        let mut lines = Vec::new();
        for relation in &guess.relations {
            let of_table = [("from", &relation.from), ("where", &relation.filter)];
            let columns = relation.columns.iter().map(|(name, sql)| (&**name, sql));
            for (name, sql) in of_table.into_iter().chain(columns) {
                if let Some(sql) = sql {
                    let mark = if sql.is_doubtful { " ?" } else { "" };
                    lines.push(format!("{}.{name} = {}{mark}", relation.name, sql.sql));
                }
            }
        }
        lines
    }

    #[track_caller]
    fn assert_has(lines: &[String], wanted: &[&str]) {
        for wanted in wanted {
            assert!(lines.iter().any(|l| l == wanted), "no `{wanted}` in {lines:#?}");
        }
    }

    #[track_caller]
    fn assert_none(lines: &[String], begin: &str) {
        assert!(!lines.iter().any(|l| l.starts_with(begin)), "{begin}: {lines:#?}");
    }

    #[test]
    fn states_ranges_foreign_keys_and_soft_deletion_are_understood() {
        let reservations =
            "id*:other berth:other customer:other during:range status:enum(held,Confirmed,cancelled) deleted_at:time";
        let lines = lines(
            "booking",
            vec![
                table("berths", "id*:other capacity:number"),
                table("reservations", reservations),
                table("customers", "id*:other name:text"),
                table("reservation_items", "id*:other reservation:other"),
            ],
            vec![
                key("reservations", "berth", "berths"),
                key("reservations", "customer", "customers"),
                key("reservation_items", "reservation", "reservations"),
            ],
        );
        assert_has(
            &lines,
            &[
                "booking.from = public.reservations",
                "booking.booking_id = id",
                "booking.resource_id = berth",
                "booking.starts_at = lower(during)",
                "booking.ends_at = upper(during)",
                "booking.is_active = status in ('held', 'Confirmed') and deleted_at is null ?",
                "booking.is_cancelled = status = 'cancelled' and deleted_at is null ?",
                "booking_item.booking_id = reservation",
                "resource.from = public.berths ?",
                "resource.capacity = capacity",
            ],
        );
        assert_none(&lines, "hold.");
        // nothing else refers to its rows
        let items = vec![
            table("bookings", "id*:other room_id:other starts_at:time confirmed:bool"),
            table("booking_items", "id*:other booking_id:other deleted_at:time"),
        ];
        let lines = self::lines("booking", items, vec![]);
        assert_has(&lines, &["booking_item.where = deleted_at is null ?"]);
    }

    #[test]
    fn times_tell_what_states_would() {
        let bookings = "id*:other room_id:other starts_at:time ends_at:time cancelled_at:time released_at:time";
        let lines = lines("booking", vec![table("bookings", bookings)], vec![]);
        assert_has(
            &lines,
            &[
                "booking.is_active = cancelled_at is null ?",
                "booking.is_cancelled = cancelled_at is not null ?",
            ],
        );
        assert_none(&lines, "booking.is_confirmed");
    }

    #[test]
    fn types_decide_between_names() {
        let bookings = "id*:other quantity:text starts_at:text room_id:other seats:number confirmed:bool";
        let lines = lines("booking", vec![table("bookings", bookings)], vec![]);
        assert_has(&lines, &["booking.party = seats"]);
        assert_none(&lines, "booking.starts_at");
    }

    #[test]
    fn a_name_alone_is_not_enough_for_a_table() {
        let users = table("accounts", "id*:other email:text");
        assert_eq!(lines("ledger", vec![users], vec![]), [""; 0]);
        let two = vec![
            table("old_bookings", "id*:other room_id:other starts_at:time ends_at:time"),
            table(
                "bookings",
                "id*:other room_id:other starts_at:time ends_at:time active:bool",
            ),
        ];
        let lines = lines("booking", two, vec![]);
        assert_has(
            &lines,
            &["booking.from = public.bookings ?", "booking.is_active = active"],
        );
    }

    #[test]
    fn a_constant_does_not_stand_for_what_another_table_tells_apart() {
        let stock = |columns: &str| {
            let reservations = "id*:other sku:text quantity:number status:text(open,done) expires_at:time";
            let tables = vec![table("stock", columns), table("reservations", reservations)];
            lines("inventory", tables, vec![])
        };
        let one_place = stock("sku*:text on_hand:number reserved:number");
        assert_has(
            &one_place,
            &["stock.location_id = 'here' ?", "reservation.location_id = 'here' ?"],
        );
        let places = stock("sku*:text warehouse_id*:other on_hand:number reserved:number");
        assert_has(&places, &["stock.location_id = warehouse_id"]);
        assert_none(&places, "reservation.location_id");
    }

    #[test]
    fn tenants_are_gathered_from_all_tables_and_foreign_keys() {
        let tables = vec![
            table("customers", "id*:other org_id:other"),
            table("countries", "id*:other name:text"),
            table("orders", "org_id*:other no*:number customer_id:other country_id:other"),
            table("lines", "id*:other org_id:other order_no:number"),
            table("organizations", "id*:other name:text"),
        ];
        let mut safe = key("lines", "order_no", "orders");
        safe.columns = vec!["org_id".into(), "order_no".into()];
        safe.referred = vec!["org_id".into(), "no".into()];
        let keys = vec![
            key("orders", "customer_id", "customers"),
            key("orders", "country_id", "countries"),
            key("customers", "org_id", "organizations"),
            safe,
        ];
        let lines = lines("tenants", tables, keys);
        let of = |name: &str| lines.iter().find(|l| l.starts_with(name)).unwrap();
        let owned = of("owned.from");
        assert_eq!(owned.matches("select").count(), 3, "{owned}");
        for part in [
            "select 'public.customers' as table_name, id::text as row_id, org_id::text as tenant_id from public.customers",
            "select 'public.orders' as table_name, concat_ws(',', org_id, no) as row_id, org_id::text as tenant_id",
        ] {
            assert!(owned.contains(part), "{owned}");
        }
        // the key of lines has the tenant in it, and can't cross
        let link = of("link.from");
        assert_eq!(link.matches("select").count(), 1, "{link}");
        let join = "from public.orders as c join public.customers as p on p.id = c.customer_id";
        assert!(link.contains(join), "{link}");
    }
}
