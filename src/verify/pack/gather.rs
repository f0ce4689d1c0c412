//! Relations that are all of the user's tables of a kind together: those with a tenant, and the foreign keys between them.

use super::catalog::{Catalog, ForeignKey, Table};
use super::guess::{Guessed, GuessedRelation, literal};
use super::{Gather, Pack, Relation};

/// Puts together what is asked for. `tenant` is the table of tenants, where it is known.
pub(super) fn gather(
    what: Gather,
    relation: &Relation,
    tenant: Option<&Table>,
    pack: &Pack,
    catalog: &Catalog,
) -> GuessedRelation {
    let owners = Owners::of(pack, tenant, catalog);
    let parts: Vec<String> = match what {
        Gather::Tables => owners.tables(catalog).map(|(t, column)| table(t, column)).collect(),
        Gather::ForeignKeys => catalog
            .foreign_keys
            .iter()
            .filter_map(|key| link(key, &owners, catalog))
            .collect(),
    };
    let why = match what {
        Gather::Tables => format!("{} tables that have a tenant", parts.len()),
        Gather::ForeignKeys => format!(
            "{} foreign keys between tables that have a tenant, without it in them",
            parts.len()
        ),
    };
    let is_found = !parts.is_empty();
    let from = format!("(\n    {}\n) as t", parts.join("\n    union all\n    "));
    let column = |name: &String| (name.clone(), is_found.then(|| Guessed::sure(name, "as above")));
    GuessedRelation {
        name: relation.name.clone(),
        from: is_found.then(|| Guessed::doubtful(from, why)),
        filter: None,
        columns: relation.columns.iter().map(|c| column(&c.name)).collect(),
    }
}

/// Which column says whose a row is.
struct Owners<'a> {
    tenant: Option<&'a Table>,
    words: Vec<String>,
}

impl<'a> Owners<'a> {
    /// The columns that refer to the tenants, or else the likeliest name that some table has.
    fn of(pack: &Pack, tenant: Option<&'a Table>, catalog: &Catalog) -> Owners<'a> {
        let names = pack.relation("owned").and_then(|r| r.column("tenant_id"));
        let names = names.map_or(&[][..], |c| &c.names);
        let mut words: Vec<String> = Vec::new();
        for table in &catalog.tables {
            for column in &table.columns {
                if let Some(tenant) = tenant
                    && catalog.referred_by(&table.name, &column.name) == Some(&tenant.name)
                    && !words.contains(&column.word)
                    && names.contains(&column.word)
                {
                    words.push(column.word.clone());
                }
            }
        }
        if words.is_empty() {
            let has = |name: &&String| {
                catalog
                    .tables
                    .iter()
                    .any(|t| t.columns.iter().any(|c| c.word == **name))
            };
            words.extend(names.iter().find(has).cloned());
        }
        Owners { tenant, words }
    }

    fn column(&self, table: &'a Table) -> Option<&'a str> {
        if self.tenant.is_some_and(|t| t.name == table.name) {
            return None;
        }
        let column = table.columns.iter().find(|c| self.words.contains(&c.word))?;
        Some(&column.name)
    }

    fn tables(&self, catalog: &'a Catalog) -> impl Iterator<Item = (&'a Table, &'a str)> {
        // a view has no key, and shows rows of tables that are here themselves
        let tables = catalog.tables.iter().filter(|t| !t.key.is_empty());
        tables.filter_map(|t| Some((t, self.column(t)?)))
    }
}

fn table(table: &Table, tenant: &str) -> String {
    let name = literal(&table.name);
    let key = key("", table);
    format!(
        "select {name} as table_name, {key} as row_id, {tenant}::text as tenant_id from {}",
        table.name
    )
}

fn link(key: &ForeignKey, owners: &Owners<'_>, catalog: &Catalog) -> Option<String> {
    let child = catalog.table(&key.table).filter(|t| !t.key.is_empty())?;
    let parent = catalog.table(&key.refers_to)?;
    let (child_tenant, parent_tenant) = (owners.column(child)?, owners.column(parent)?);
    let mut pairs = key.columns.iter().zip(&key.referred);
    // it can't lead to another tenant
    if pairs.any(|(c, p)| c == child_tenant && p == parent_tenant) {
        return None;
    }
    let pairs = key.columns.iter().zip(&key.referred);
    let join: Vec<String> = pairs.map(|(c, p)| format!("p.{p} = c.{c}")).collect();
    let name = literal(&format!("{}.{}", child.name, key.name));
    Some(format!(
        "select {name} as link_name, {} as child_id, c.{child_tenant}::text as child_tenant_id, {} as parent_id,\n        \
         p.{parent_tenant}::text as parent_tenant_id\n        from {} as c join {} as p on {}",
        self::key("c.", child),
        self::key("p.", parent),
        child.name,
        parent.name,
        join.join(" and ")
    ))
}

/// The primary key as text.
fn key(prefix: &str, table: &Table) -> String {
    match table.key.as_slice() {
        [] => "null::text".into(),
        [one] => format!("{prefix}{one}::text"),
        many => {
            let parts: Vec<String> = many.iter().map(|c| format!("{prefix}{c}")).collect();
            format!("concat_ws(',', {})", parts.join(", "))
        }
    }
}
