//! Rows that are locked, looked up while they are: after the transactions have ended, a ctid leads nowhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

use super::graph::member_lock;
use super::sighting::{LockedRow, Sighting};

/// Tables that are read as a whole to find locked rows, at the most, in bytes: some milliseconds.
const TABLE_MAX: i64 = 4 << 20;
/// Locked rows that are kept of a table.
const ROWS_MAX: u32 = 1_000;

/// The primary key's columns, or those of another unique key in which nothing is null.
const KEY_COLUMNS: &str = "\
select $1::oid::regclass::text, a.attname, 't.' || quote_ident(a.attname)
from (
  select i.indrelid, i.indkey::int2[] as keys, i.indnkeyatts
  from pg_catalog.pg_index i
  where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    and not exists (
      select from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k
      where not a.attnotnull)
  order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
  limit 1
) i
cross join unnest(i.keys[0:i.indnkeyatts - 1]) with ordinality k (attnum, position)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
order by k.position";

/// Tables that these processes have locks on which row locks need, and their transactions.
const TABLES: &str = "\
select l.pid, null::oid, l.transactionid::text, false, 0::int8
from pg_catalog.pg_locks l
where l.pid = any ($1) and l.granted and l.locktype = 'transactionid'
union all
select l.pid, c.oid, null, bool_or(l.mode <> 'RowShareLock'), pg_catalog.pg_relation_size(c.oid)
from pg_catalog.pg_locks l
join pg_catalog.pg_class c on c.oid = l.relation
where l.pid = any ($1) and l.granted and l.locktype = 'relation' and l.mode <> 'AccessShareLock'
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and c.relkind = 'r' and c.oid >= 16384
group by l.pid, c.oid";

const REFERENCES: &str = "\
select distinct conrelid, confrelid from pg_catalog.pg_constraint
where contype = 'f' and conrelid = any ($1) and confrelid = any ($1)";

/// Reads rows by ctid, and rows that are locked.
#[derive(Debug)]
pub(super) struct Rows {
    key_columns: Statement,
    tables: Statement,
    references: Statement,
    /// By oid.
    known: Mutex<HashMap<u32, Table>>,
}

/// A table, and how its rows are named.
#[derive(Clone, Debug, Default)]
struct Table {
    name: String,
    /// Name, and name as SQL has it.
    key: Vec<(String, String)>,
    /// Reads the key of a row.
    by_ctid: Option<Statement>,
}

impl Rows {
    pub(super) async fn new(client: &Client) -> Result<Rows, Error> {
        Ok(Rows {
            key_columns: client.prepare(KEY_COLUMNS).await?,
            tables: client.prepare(TABLES).await?,
            references: client.prepare(REFERENCES).await?,
            known: Mutex::default(),
        })
    }

    /// The key of a row: `id = 7`. In a table without a key the ctid names it, until it is changed.
    pub(super) async fn key(&self, client: &Client, oid: u32, row: &str) -> Option<String> {
        let table = self.table(client, oid).await.ok()?;
        if table.key.is_empty() {
            return Some(format!("ctid {row}"));
        }
        let by_ctid = table.by_ctid.as_ref()?;
        let found = client.query_opt(by_ctid, &[&row]).await.ok()??;
        let values: Vec<Option<String>> = found.get(0);
        Some(table.name_row(values.iter().map(Option::as_deref)))
    }

    /// The rows that these processes have locked, in tables that are small enough.
    pub(super) async fn locked(&self, client: &Client, pids: &[i32]) -> Result<Sighting, Error> {
        let mut sighting = Sighting::new(Instant::now());
        let mut owners: HashMap<String, i32> = HashMap::new();
        let mut small: Vec<u32> = Vec::new();
        for row in client.query(&self.tables, &[&pids]).await? {
            let pid: i32 = row.get(0);
            if let Some(xid) = row.get(2) {
                owners.insert(xid, pid);
            }
            if let Some(oid) = row.get(1) {
                sighting.tables.entry(pid).or_default().push((oid, row.get(3)));
                if row.get::<_, Option<i64>>(4).is_some_and(|size| size <= TABLE_MAX) && !small.contains(&oid) {
                    small.push(oid);
                }
            }
        }
        let all: Vec<u32> = sighting.tables.values().flatten().map(|(oid, _)| *oid).collect();
        for row in client.query(&self.references, &[&all]).await? {
            sighting.references.push((row.get(0), row.get(1)));
        }
        for oid in small {
            let table = self.table(client, oid).await?;
            // one that can't be read keeps its rows to itself
            for message in client
                .simple_query(&table.locked(owners.keys()))
                .await
                .unwrap_or_default()
            {
                if let SimpleQueryMessage::Row(values) = message {
                    sighting.rows.push(LockedRow {
                        oid,
                        relation: table.name.clone(),
                        row: values.get(0).unwrap_or_default().to_string(),
                        key: (!table.key.is_empty()).then(|| table.name_row((2..).map(|i| values.get(i)))),
                        owners: read_owners(values.get(1).unwrap_or_default(), &owners),
                    });
                }
            }
        }
        Ok(sighting)
    }

    async fn table(&self, client: &Client, oid: u32) -> Result<Table, Error> {
        if let Some(table) = self.lock().get(&oid) {
            return Ok(table.clone());
        }
        let mut table = Table::default();
        for row in client.query(&self.key_columns, &[&oid]).await? {
            table.name = row.get(0);
            table.key.push((row.get(1), row.get(2)));
        }
        if table.name.is_empty() {
            table.name = client
                .query_one("select $1::oid::regclass::text", &[&oid])
                .await?
                .get(0);
        }
        if !table.key.is_empty() {
            // one that can't be read keeps its rows to itself
            table.by_ctid = client.prepare(&table.by_ctid()).await.ok();
        }
        self.lock().insert(oid, table.clone());
        Ok(table)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Table>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn columns(&self) -> String {
        let columns: Vec<&str> = self.key.iter().map(|(_, sql)| sql.as_str()).collect();
        columns.join(", ")
    }

    fn by_ctid(&self) -> String {
        let columns: Vec<String> = self.key.iter().map(|(_, sql)| format!("{sql}::text")).collect();
        format!(
            "select array[{}] from only {} t where t.ctid = $1::text::tid",
            columns.join(", "),
            self.name
        )
    }

    /// Rows whose xmax is one of these transactions, or a group of lockers with one of them in it. A number that is no
    /// such group would be an error, so only those are asked that can be one.
    fn locked<'a>(&self, xids: impl Iterator<Item = &'a String> + Clone) -> String {
        let list = xids.cloned().collect::<Vec<_>>().join(",");
        let columns = if self.key.is_empty() {
            String::new()
        } else {
            format!(", {}", self.columns())
        };
        format!(
            "select t.ctid, t.xmax || coalesce(' ' || l.members, ''){columns} \
             from only {} t \
             cross join lateral (select case when mxid_age(t.xmax) between 1 and \
               (select max(mxid_age(datminmxid)) from pg_catalog.pg_database) \
               then (select string_agg(m.xid || ' ' || m.mode, ' ') from pg_catalog.pg_get_multixact_members(t.xmax) m \
                     where m.xid = any ('{{{list}}}')) end as members) l \
             where t.xmax <> '0' and (t.xmax = any ('{{{list}}}') or l.members is not null) \
             limit {ROWS_MAX}",
            self.name
        )
    }

    fn name_row<'a>(&self, values: impl Iterator<Item = Option<&'a str>>) -> String {
        let pairs = self.key.iter().zip(values);
        let pairs = pairs.map(|((name, _), value)| format!("{name} = {}", value.unwrap_or("NULL")));
        pairs.collect::<Vec<_>>().join(", ")
    }
}

/// `740`, or `3 740 sh 741 sh`: the row's xmax, and its members when that is a group.
fn read_owners(text: &str, pids: &HashMap<String, i32>) -> Vec<(i32, Option<&'static str>)> {
    let words: Vec<&str> = text.split(' ').collect();
    let Some((xmax, members)) = words.split_first() else {
        return Vec::new();
    };
    if members.is_empty() {
        return pids.get(*xmax).map(|pid| (*pid, None)).into_iter().collect();
    }
    let owner = |pair: &[&str]| Some((*pids.get(*pair.first()?)?, member_lock(pair.get(1)?)));
    members.chunks(2).filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_one_transaction_or_a_group() {
        let pids = HashMap::from([("740".to_string(), 7), ("741".to_string(), 8)]);
        assert_eq!(read_owners("740", &pids), [(7, None)]);
        assert_eq!(
            read_owners("3 740 sh 741 keysh", &pids),
            [(7, Some("FOR SHARE")), (8, Some("FOR KEY SHARE"))]
        );
        assert_eq!(read_owners("999", &pids), []);
    }

    #[test]
    fn only_the_given_transactions_are_looked_for() {
        let table = Table {
            name: "public.room".into(),
            key: vec![("id".into(), "t.id".into())],
            by_ctid: None,
        };
        let sql = table.locked([&"740".to_string(), &"741".to_string()].into_iter());
        assert!(sql.contains("from only public.room t"), "{sql}");
        assert!(sql.contains("any ('{740,741}')"), "{sql}");
    }
}
