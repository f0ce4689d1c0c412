//! Rows that are locked, looked up while they are: after the transactions have ended, a ctid leads nowhere.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow, Statement};

use super::graph::member_lock;
use super::sighting::{LockedRow, Sighting};

/// Tables that are read as a whole to find locked rows, at the most, in bytes: some milliseconds.
const TABLE_MAX: i64 = 4 << 20;
/// Tables whose keys are read before the race.
const TABLES_MAX: &str = "1000";
/// Locked rows that are kept of a table.
const ROWS_MAX: u32 = 1_000;

/// The primary key's columns, or those of another unique key in which nothing is null.
const KEY_COLUMNS: &str = "\
select c.oid, c.oid::regclass::text, a.attname, 't.' || quote_ident(a.attname)
from (
  select oid from pg_catalog.pg_class
  where relkind in ('r', 'p') and oid >= 16384 and (oid = $1 or $1 is null)
  order by oid
  limit TABLES_MAX
) c
left join lateral (
  select i.indrelid, i.indkey::int2[] as keys, i.indnkeyatts
  from pg_catalog.pg_index i
  where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    and not exists (
      select from unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k
      where not a.attnotnull)
  order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
  limit 1
) i on true
left join unnest(i.keys[0:i.indnkeyatts - 1]) with ordinality k (attnum, position) on true
left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
order by c.oid, k.position";

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

const REFERENCES: &str = "select distinct conrelid, confrelid from pg_catalog.pg_constraint where contype = 'f'";

/// Reads rows by ctid, and rows that are locked.
#[derive(Debug)]
pub(super) struct Rows {
    key_columns: Statement,
    tables: Statement,
    references: Statement,
    known: Mutex<Known>,
}

/// What was read before, and is read again when a table turns up that is new.
#[derive(Debug, Default)]
struct Known {
    /// By oid.
    tables: HashMap<u32, Table>,
    /// Foreign keys: the table that refers, and the one referred to.
    references: Vec<(u32, u32)>,
}

/// A table, and how its rows are named.
#[derive(Clone, Debug, Default)]
struct Table {
    name: String,
    /// Name, and name as SQL has it.
    key: Vec<(String, String)>,
}

impl Rows {
    /// A cycle stands for a short while only, so what can be known before is read before.
    pub(super) async fn new(client: &Client) -> Result<Rows, Error> {
        let rows = Rows {
            key_columns: client.prepare(&KEY_COLUMNS.replace("TABLES_MAX", TABLES_MAX)).await?,
            tables: client.prepare(TABLES).await?,
            references: client.prepare(REFERENCES).await?,
            known: Mutex::default(),
        };
        rows.read_keys(client, None).await?;
        rows.locked(client, &[]).await?;
        Ok(rows)
    }

    /// The key of a row: `id = 7`. In a table without a key the ctid names it, until it is changed.
    pub(super) async fn key(&self, client: &Client, oid: u32, row: &str) -> Option<String> {
        let table = self.table(client, oid).await.ok()?;
        if table.key.is_empty() {
            return Some(format!("ctid {row}"));
        }
        let sql = format!(
            "select {} from only {} t where t.ctid = '{row}'",
            table.columns(),
            table.name
        );
        let found = client.simple_query(&sql).await.ok()?;
        found.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(values) => Some(table.name_row(values, 0)),
            _ => None,
        })
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
        let rows = small.iter().map(|oid| self.locked_rows(client, *oid, &owners));
        sighting.rows = future::join_all(rows).await.concat();
        sighting.references.clone_from(&self.lock().references);
        Ok(sighting)
    }

    /// The rows of a table; one that can't be read keeps them to itself.
    async fn locked_rows(&self, client: &Client, oid: u32, owners: &HashMap<String, i32>) -> Vec<LockedRow> {
        let Ok(table) = self.table(client, oid).await else {
            return Vec::new();
        };
        let found = client
            .simple_query(&table.locked(owners.keys()))
            .await
            .unwrap_or_default();
        let rows = found.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(values) => Some(LockedRow {
                oid,
                relation: table.name.clone(),
                row: values.get(0).unwrap_or_default().to_string(),
                key: (!table.key.is_empty()).then(|| table.name_row(values, 2)),
                owners: read_owners(values.get(1).unwrap_or_default(), owners),
            }),
            _ => None,
        });
        rows.collect()
    }

    async fn table(&self, client: &Client, oid: u32) -> Result<Table, Error> {
        if !self.lock().tables.contains_key(&oid) {
            self.read_keys(client, Some(oid)).await?;
        }
        Ok(self.lock().tables.get(&oid).cloned().unwrap_or_default())
    }

    /// Of one table, or of all.
    async fn read_keys(&self, client: &Client, oid: Option<u32>) -> Result<(), Error> {
        let mut tables: HashMap<u32, Table> = HashMap::new();
        let keys: [&(dyn ToSql + Sync); 1] = [&oid];
        let keys = client.query(&self.key_columns, &keys);
        let (keys, references) = future::join(keys, client.query(&self.references, &[])).await;
        for row in keys? {
            let table = tables.entry(row.get(0)).or_default();
            table.name = row.get(1);
            if let (Some(name), Some(sql)) = (row.get(2), row.get(3)) {
                table.key.push((name, sql));
            }
        }
        let references = references?.iter().map(|r| (r.get(0), r.get(1))).collect();
        let mut known = self.lock();
        known.tables.extend(tables);
        known.references = references;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn columns(&self) -> String {
        let columns: Vec<&str> = self.key.iter().map(|(_, sql)| sql.as_str()).collect();
        columns.join(", ")
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

    fn name_row(&self, values: &SimpleQueryRow, first: usize) -> String {
        let pair = |(i, (name, _)): (usize, &(String, String))| {
            format!("{name} = {}", values.get(first + i).unwrap_or("NULL"))
        };
        self.key.iter().enumerate().map(pair).collect::<Vec<_>>().join(", ")
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
        };
        let sql = table.locked([&"740".to_string(), &"741".to_string()].into_iter());
        assert!(sql.contains("from only public.room t"), "{sql}");
        assert!(sql.contains("any ('{740,741}')"), "{sql}");
    }
}
