//! A memory in the schema `db_race_audit` of a PostgreSQL.

mod schema;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::rows::{RunRow, counts_of, happened, known, moment, story};
use super::{Changes, End, PastLook, PastRun, StoreError, VERSION};
use crate::audit::compare::{LastFailure, Memory, Remembered};
use crate::audit::diff::Known;
use crate::audit::overlap::{self, Guard};
use crate::audit::{Event, Happened, Kept, Moment, Retired, Story, Subject};
use crate::postgres::{Connection, Target, explain};

/// No statement on a memory takes that long; a network that swallows packets does.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A time as text that can be read again.
const RFC_3339: &str = r#"at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'"#;

/// Findings.
const FOUND: &str = "from db_race_audit.finding";

/// Values with their types.
type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// An open schema.
#[derive(Debug)]
pub struct DatabaseStore {
    client: Connection,
    place: String,
    version: i64,
    /// Held until this is dropped.
    _guard: Option<Guard>,
}

impl DatabaseStore {
    pub(super) async fn open(target: &Target) -> Result<DatabaseStore, StoreError> {
        let place = target.address();
        // two that begin at once must not both make the schema, so the lock comes first
        let guard = Guard::take(target, "memory", overlap::STATE)
            .await
            .map_err(|error| match error {
                overlap::OverlapError::Connect(error) => StoreError::Connect(error),
                overlap::OverlapError::Busy(_) => StoreError::Busy(place.clone()),
                overlap::OverlapError::Failed { why, .. } => StoreError::Failed {
                    place: place.clone(),
                    why,
                },
            })?;
        let mut store = DatabaseStore::connect(target).await?;
        store._guard = Some(guard);
        store.migrate(store.version().await?).await?;
        store.version = VERSION;
        Ok(store)
    }

    pub(super) async fn read(target: &Target) -> Result<DatabaseStore, StoreError> {
        let mut store = DatabaseStore::connect(target).await?;
        store.version = store.version().await?;
        match store.version {
            0 => Err(StoreError::Missing(store.place)),
            _ => Ok(store),
        }
    }

    async fn connect(target: &Target) -> Result<DatabaseStore, StoreError> {
        Ok(DatabaseStore {
            client: target.connect("audit-memory").await?,
            place: target.address(),
            version: 0,
            _guard: None,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) async fn begin(&mut self, suite: &str, now: Moment) -> Result<i64, StoreError> {
        let sql = "insert into db_race_audit.run (suite, started_at) values ($1, $2::text::timestamptz) returning id";
        Ok(self.one(sql, &[text(&suite), text(&now.to_string())]).await?.get(0))
    }

    pub(super) async fn check_ids(&self) -> Result<Vec<String>, StoreError> {
        let ids = self
            .all("select distinct check_id from db_race_audit.subject", &[])
            .await?;
        Ok(ids.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn memory(
        &self,
        run: i64,
        suite: &str,
        whole_suite: Option<&str>,
        databases: &[String],
    ) -> Result<Memory, StoreError> {
        let mut memory = Memory {
            known: self.findings("database = any ($1)", &[texts(&databases)]).await?,
            ..Memory::default()
        };
        let sql = "select database, check_id, fingerprint, decision, level, waived from db_race_audit.subject \
                   where database = any ($1)";
        for row in self.all(sql, &[texts(&databases)]).await? {
            let mut remembered = Remembered {
                fingerprint: row.get(2),
                decision: row.get(3),
                level: row.get(4),
                ..Remembered::default()
            };
            remembered.counts.waived = usize::try_from(row.get::<_, i64>(5)).unwrap_or_default();
            memory.subjects.insert(subject(&row, 0), remembered);
        }
        // what another suite has had since then is looked at there
        let sql = "select m.database, m.check_id, m.missed_in is not null from db_race_audit.member m \
                   left join db_race_audit.subject s on s.database = m.database and s.check_id = m.check_id \
                   where m.suite = $1 and m.database = any ($2) and (m.missed_in is null or s.last_run < m.missed_in)";
        if let Some(whole_suite) = whole_suite {
            let members = self.all(sql, &[text(&whole_suite), texts(&databases)]).await?;
            memory
                .members
                .extend(members.iter().map(|row| (subject(row, 0), row.get(2))));
        }
        let sql = format!(
            "select to_char(started_at {RFC_3339}) from db_race_audit.run where complete order by id desc limit 1"
        );
        if let Some(row) = self.all(&sql, &[]).await?.first() {
            memory.last_run = Some(moment(&self.place, row.get(0))?);
        }
        let sql = format!(
            "select complete, to_char(started_at {RFC_3339}), exit_code from db_race_audit.run \
             where suite = $1 and id < $2 order by id desc limit 1"
        );
        if let Some(row) = self.all(&sql, &[text(&suite), number(&run)]).await?.first()
            && !row.get::<_, bool>(0)
        {
            memory.last_failure = Some(LastFailure {
                at: moment(&self.place, row.get(1))?,
                exit_code: exit_code(row, 2),
            });
        }
        Ok(memory)
    }

    pub(super) async fn end(
        &mut self,
        run: i64,
        now: Moment,
        end: &End,
        changes: Option<&Changes>,
    ) -> Result<(), StoreError> {
        self.in_transaction(self.write(run, now, end, changes)).await
    }

    async fn in_transaction(&self, writing: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
        let begin = format!("begin; set local statement_timeout = {}", ANSWER_MAX.as_millis() / 2);
        bounded(&self.place, self.client.batch_execute(&begin)).await?;
        let written = writing.await;
        let how = if written.is_ok() { "commit" } else { "rollback" };
        let ended = bounded(&self.place, self.client.batch_execute(how)).await;
        written.and(ended)
    }

    pub(super) async fn runs(&self, since: Moment) -> Result<Vec<PastRun>, StoreError> {
        let sql = format!(
            "select new, came_back, open, fixed, check_changed, not_looked_at, waived, id, to_char(started_at {RFC_3339}), \
             to_char(ended_at {RFC_3339}), exit_code, complete, checks, duration_ms \
             from db_race_audit.run where started_at >= $1::text::timestamptz order by id"
        );
        let run = |row: &Row| {
            let parts = RunRow {
                id: row.get(7),
                started_at: row.get(8),
                ended_at: row.get(9),
                exit_code: exit_code(row, 10),
                complete: row.get(11),
                checks: row.get(12),
                duration_ms: row.get(13),
            };
            parts.run(&self.place, counts(row))
        };
        self.all(&sql, &[text(&since.to_string())])
            .await?
            .iter()
            .map(run)
            .collect()
    }

    pub(super) async fn looks(&self, since: Moment) -> Result<Vec<PastLook>, StoreError> {
        let sql = format!(
            "select l.new, l.came_back, l.open, l.fixed, l.check_changed, l.not_looked_at, l.waived, r.id, \
             to_char(r.started_at {RFC_3339}), l.database, l.check_id, l.decision, l.level, l.count, l.is_capped \
             from db_race_audit.look l join db_race_audit.run r on r.id = l.run_id \
             where r.started_at >= $1::text::timestamptz order by r.id, l.database, l.check_id"
        );
        let look = |row: &Row| {
            Ok(PastLook {
                run: row.get(7),
                at: moment(&self.place, row.get(8))?,
                subject: subject(row, 9),
                decision: row.get(11),
                level: row.get(12),
                count: row.get::<_, i64>(13).unsigned_abs(),
                is_capped: row.get(14),
                counts: counts_of(counts(row)),
            })
        };
        self.all(&sql, &[text(&since.to_string())])
            .await?
            .iter()
            .map(look)
            .collect()
    }

    pub(super) async fn open_findings(&self) -> Result<Vec<Known>, StoreError> {
        self.findings("closed_at is null", &[]).await
    }

    async fn findings(&self, which: &str, params: Params<'_>) -> Result<Vec<Known>, StoreError> {
        let sql = format!(
            "select {} {FOUND} where {which} order by database, check_id, key",
            known_columns()
        );
        let found = self.all(&sql, params).await?;
        found.iter().map(|row| self.known(row)).collect()
    }

    /// Of a row that begins with [`known_columns`].
    fn known(&self, row: &Row) -> Result<Known, StoreError> {
        let times = [row.get(3), row.get(4), row.get(5)];
        let closed = (row.get(8), row.get(9));
        known(
            &self.place,
            subject(row, 0),
            row.get(2),
            times,
            [row.get(6), row.get(7)],
            closed,
        )
    }

    pub(super) async fn keep(&mut self, findings: &[Kept]) -> Result<(), StoreError> {
        self.in_transaction(self.write_findings(findings)).await
    }

    pub(super) async fn retired(&self, since: Moment) -> Result<Vec<Retired>, StoreError> {
        if self.version < 2 {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select database, check_id, to_char(at {RFC_3339}), why, count(*) from db_race_audit.event \
             where what = $1 and at >= $2::text::timestamptz \
             group by database, check_id, at, why order by at, database, check_id"
        );
        let retired = |row: &Row| {
            Ok(Retired {
                subject: subject(row, 0),
                at: moment(&self.place, row.get(2))?,
                why: row.get(3),
                findings: row.get::<_, i64>(4).unsigned_abs(),
            })
        };
        let (what, since) = (Event::Retired.name(), since.to_string());
        let params = [text(&what), text(&since)];
        self.all(&sql, &params).await?.iter().map(retired).collect()
    }

    pub(super) async fn stories(&self, check: &str) -> Result<Vec<Story>, StoreError> {
        if self.version < 2 {
            return Err(StoreError::Older {
                place: self.place.clone(),
            });
        }
        let sql = format!(
            "select database, key::text, to_char(at {RFC_3339}), what, why from db_race_audit.event \
             where check_id = $1 order by at"
        );
        let mut histories: BTreeMap<(String, String), Vec<Happened>> = BTreeMap::new();
        for row in self.all(&sql, &[text(&check)]).await? {
            let happened = happened(&self.place, row.get(2), row.get(3), row.get(4))?;
            let name = (row.get(0), row.get(1));
            histories.entry(name).or_default().push(happened);
        }
        let sql = format!(
            "select {}, sample::text, waiver::text {FOUND} where check_id = $1 order by database, key",
            known_columns()
        );
        let story = |row: &Row| {
            let history = histories.remove(&(row.get(0), row.get(2))).unwrap_or_default();
            story(&self.place, self.known(row)?, row.get(10), row.get(11), history)
        };
        self.all(&sql, &[text(&check)]).await?.iter().map(story).collect()
    }

    async fn one(&self, sql: &str, params: Params<'_>) -> Result<Row, StoreError> {
        let failed = || StoreError::Failed {
            place: self.place.clone(),
            why: "a query that has one row had none".into(),
        };
        self.all(sql, params).await?.into_iter().next().ok_or_else(failed)
    }

    async fn all(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        // without named statements, which a transaction pooler would leave behind
        bounded(&self.place, self.client.query_typed(sql, params)).await
    }
}

/// What is known of a finding.
fn known_columns() -> String {
    format!(
        "database, check_id, key::text, to_char(first_seen {RFC_3339}), to_char(last_seen {RFC_3339}), \
         to_char(open_since {RFC_3339}), times_seen, times_back, to_char(closed_at {RFC_3339}), closed_why"
    )
}

fn text(value: &(dyn ToSql + Sync)) -> (&(dyn ToSql + Sync), Type) {
    (value, Type::TEXT)
}

fn number(value: &(dyn ToSql + Sync)) -> (&(dyn ToSql + Sync), Type) {
    (value, Type::INT8)
}

fn texts(values: &(dyn ToSql + Sync)) -> (&(dyn ToSql + Sync), Type) {
    (values, Type::TEXT_ARRAY)
}

async fn bounded<T>(
    place: &str,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    let why = match tokio::time::timeout(ANSWER_MAX, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => explain(&error),
        // the connection is given up with the store
        Err(_) => format!("no answer within {} s", ANSWER_MAX.as_secs()),
    };
    Err(StoreError::Failed {
        place: place.to_string(),
        why,
    })
}

fn subject(row: &Row, from: usize) -> Subject {
    Subject {
        database: row.get(from),
        check: row.get(from + 1),
    }
}

/// The first seven columns.
fn counts(row: &Row) -> [i64; 7] {
    std::array::from_fn(|i| row.get(i))
}

fn exit_code(row: &Row, column: usize) -> Option<u8> {
    row.get::<_, Option<i32>>(column)
        .and_then(|code| u8::try_from(code).ok())
}
