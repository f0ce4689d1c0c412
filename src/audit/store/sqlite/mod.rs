//! A memory in a SQLite file, in WAL mode.

mod file;
mod rows;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};

use super::rows::{RunRow, counts_of, counts_row, happened, moment, story};
use super::{Changes, End, PastLook, PastRun, StoreError, VERSION};
use crate::audit::diff::Known;
use crate::audit::{Event, Happened, Kept, LastFailure, Memory, Moment, Retired, Story, Subject};
use rows::{FindingRow, counts, finding, remembered, subject};

/// An open file.
#[derive(Debug)]
pub struct FileStore {
    connection: Connection,
    place: String,
    version: i64,
    /// Held until this is dropped; the system lets go when the process dies.
    _lock: Option<File>,
}

impl FileStore {
    pub(super) fn open(path: &Path) -> Result<FileStore, StoreError> {
        let place = path.display().to_string();
        let (connection, lock) = file::open(path, &place)?;
        Ok(FileStore {
            connection,
            place,
            version: VERSION,
            _lock: Some(lock),
        })
    }

    pub(super) fn read(path: &Path) -> Result<FileStore, StoreError> {
        let place = path.display().to_string();
        let (connection, version) = file::read(path, &place)?;
        Ok(FileStore {
            connection,
            place,
            version,
            _lock: None,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn begin(&mut self, suite: &str, now: Moment) -> Result<i64, StoreError> {
        let sql = "insert into run (suite, started_at) values (?1, ?2) returning id";
        self.ask(sql, params![suite, now.to_string()], |row| row.get(0))
    }

    pub(super) fn check_ids(&self) -> Result<Vec<String>, StoreError> {
        self.all("select distinct check_id from subject", [], |row| row.get(0))
    }

    pub(super) fn memory(
        &self,
        run: i64,
        suite: &str,
        whole_suite: Option<&str>,
        databases: &[String],
    ) -> Result<Memory, StoreError> {
        let mut memory = Memory::default();
        for database in databases {
            let sql = "select database, check_id, key, first_seen, last_seen, open_since, times_seen, times_back, \
                       closed_at, closed_why from finding where database = ?1";
            for finding in self.all(sql, [database], finding)? {
                memory.known.push(finding.known(&self.place)?);
            }
            let sql =
                "select database, check_id, fingerprint, decision, level, waived from subject where database = ?1";
            memory.subjects.extend(self.all(sql, [database], remembered)?);
            // what another suite has had since then is looked at there
            let sql = "select m.database, m.check_id, m.missed_in is not null from member m \
                       left join subject s on s.database = m.database and s.check_id = m.check_id \
                       where m.suite = ?1 and m.database = ?2 and (m.missed_in is null or s.last_run < m.missed_in)";
            let read = |row: &Row<'_>| Ok((subject(row)?, row.get(2)?));
            if let Some(whole_suite) = whole_suite {
                memory.members.extend(self.all(sql, [whole_suite, database], read)?);
            }
        }
        let sql = "select started_at from run where complete order by id desc limit 1";
        let last: Option<String> = self.ask_maybe(sql, [], |row| row.get(0))?;
        memory.last_run = last.map(|at| moment(&self.place, &at)).transpose()?;
        let sql =
            "select complete, started_at, exit_code from run where suite = ?1 and id < ?2 order by id desc limit 1";
        let last: Option<(bool, String, Option<u8>)> = self.ask_maybe(sql, params![suite, run], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        if let Some((false, at, exit_code)) = last {
            memory.last_failure = Some(LastFailure {
                at: moment(&self.place, &at)?,
                exit_code,
            });
        }
        Ok(memory)
    }

    pub(super) fn end(
        &mut self,
        run: i64,
        now: Moment,
        end: &End,
        changes: Option<&Changes>,
    ) -> Result<(), StoreError> {
        let place = self.place.clone();
        let failed = |error| failed(&place, error);
        // takes the lock at once, so that nobody is seen to begin in between
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let write = || -> rusqlite::Result<bool> {
            let newest: i64 = transaction.query_row("select max(id) from run", [], |row| row.get(0))?;
            if newest != run {
                return Ok(false);
            }
            let [new, came_back, open, fixed, check_changed, not_looked_at, waived] = counts_row(&end.counts);
            transaction.execute(
                "update run set ended_at = ?2, exit_code = ?3, complete = ?4, checks = ?5, new = ?6, came_back = ?7, \
                 open = ?8, fixed = ?9, check_changed = ?10, not_looked_at = ?11, waived = ?12, duration_ms = ?13 \
                 where id = ?1",
                params![
                    run,
                    now.to_string(),
                    end.exit_code,
                    changes.is_some(),
                    end.checks as i64,
                    new,
                    came_back,
                    open,
                    fixed,
                    check_changed,
                    not_looked_at,
                    waived,
                    i64::try_from(end.duration_ms).unwrap_or(i64::MAX),
                ],
            )?;
            if let Some(changes) = changes {
                write::changes(&transaction, run, changes)?;
            }
            Ok(true)
        };
        match write().map_err(failed)? {
            true => transaction.commit().map_err(failed),
            false => Err(StoreError::Overtaken(place.clone())),
        }
    }

    pub(super) fn runs(&self, since: Moment) -> Result<Vec<PastRun>, StoreError> {
        let sql = "select new, came_back, open, fixed, check_changed, not_looked_at, waived, \
                   id, started_at, ended_at, exit_code, complete, checks, duration_ms \
                   from run where started_at >= ?1 order by id";
        let rows: Vec<(RunRow, [i64; 7])> = self.all(sql, [since.to_string()], |row| {
            let parts = RunRow {
                id: row.get(7)?,
                started_at: row.get(8)?,
                ended_at: row.get(9)?,
                exit_code: row.get(10)?,
                complete: row.get(11)?,
                checks: row.get(12)?,
                duration_ms: row.get(13)?,
            };
            Ok((parts, counts(row)?))
        })?;
        rows.into_iter()
            .map(|(row, counts)| row.run(&self.place, counts))
            .collect()
    }

    pub(super) fn looks(&self, since: Moment) -> Result<Vec<PastLook>, StoreError> {
        let sql = "select l.new, l.came_back, l.open, l.fixed, l.check_changed, l.not_looked_at, l.waived, \
                   r.id, r.started_at, l.database, l.check_id, l.decision, l.level, l.count, l.is_capped \
                   from look l join run r on r.id = l.run_id where r.started_at >= ?1 order by r.id, l.database, l.check_id";
        let rows = self.all(sql, [since.to_string()], |row| {
            let at: String = row.get(8)?;
            let subject = Subject {
                database: row.get(9)?,
                check: row.get(10)?,
            };
            let counts = counts_of(counts(row)?);
            let rest: (i64, String, String, i64, bool) =
                (row.get(7)?, row.get(11)?, row.get(12)?, row.get(13)?, row.get(14)?);
            Ok((at, subject, counts, rest))
        })?;
        let look =
            |(at, subject, counts, (run, decision, level, count, is_capped)): (String, _, _, (_, _, _, i64, _))| {
                Ok(PastLook {
                    run,
                    at: moment(&self.place, &at)?,
                    subject,
                    decision,
                    level,
                    count: count.unsigned_abs(),
                    is_capped,
                    counts,
                })
            };
        rows.into_iter().map(look).collect()
    }

    pub(super) fn open_findings(&self) -> Result<Vec<Known>, StoreError> {
        let sql = "select database, check_id, key, first_seen, last_seen, open_since, times_seen, times_back, \
                   closed_at, closed_why from finding where closed_at is null order by database, check_id, key";
        let findings = self.all(sql, [], finding)?;
        findings.into_iter().map(|finding| finding.known(&self.place)).collect()
    }

    pub(super) fn keep(&mut self, findings: &[Kept]) -> Result<(), StoreError> {
        let place = self.place.clone();
        let mut keep = || {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            write::findings(&transaction, findings)?;
            transaction.commit()
        };
        keep().map_err(|error| failed(&place, error))
    }

    pub(super) fn retired(&self, since: Moment) -> Result<Vec<Retired>, StoreError> {
        if self.version < 2 {
            return Ok(Vec::new());
        }
        let sql = "select database, check_id, at, why, count(*) from event where what = ?1 and at >= ?2 \
                   group by database, check_id, at, why order by at, database, check_id";
        let params = [Event::Retired.name(), &since.to_string()];
        let rows: Vec<(Subject, String, Option<String>, i64)> = self.all(sql, params, |row| {
            Ok((subject(row)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        let retired = |(subject, at, why, n): (Subject, String, Option<String>, i64)| {
            Ok(Retired {
                subject,
                at: moment(&self.place, &at)?,
                why,
                findings: n.unsigned_abs(),
            })
        };
        rows.into_iter().map(retired).collect()
    }

    pub(super) fn stories(&self, check: &str) -> Result<Vec<Story>, StoreError> {
        if self.version < 2 {
            return Err(StoreError::Older {
                place: self.place.clone(),
            });
        }
        let sql = "select database, key, at, what, why from event where check_id = ?1 order by at, rowid";
        let events: Vec<[Option<String>; 5]> = self.all(sql, [check], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
        })?;
        let mut histories: BTreeMap<(String, String), Vec<Happened>> = BTreeMap::new();
        for event in events {
            let [database, key, at, what, why] = event;
            let [database, key, at, what] = [database, key, at, what].map(Option::unwrap_or_default);
            let happened = happened(&self.place, &at, &what, why)?;
            histories.entry((database, key)).or_default().push(happened);
        }
        let sql = "select database, check_id, key, first_seen, last_seen, open_since, times_seen, times_back, \
                   closed_at, closed_why, sample, waiver from finding where check_id = ?1 order by database, key";
        let found: Vec<(_, Option<String>, Option<String>)> =
            self.all(sql, [check], |row| Ok((finding(row)?, row.get(10)?, row.get(11)?)))?;
        let story = |(finding, row, waiver): (FindingRow, Option<String>, Option<String>)| {
            let name = (finding.subject.database.clone(), finding.key.clone());
            let history = histories.remove(&name).unwrap_or_default();
            let known = finding.known(&self.place)?;
            story(&self.place, known, row.as_deref(), waiver.as_deref(), history)
        };
        found.into_iter().map(story).collect()
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map(params, read)?.collect::<rusqlite::Result<_>>()
        };
        rows().map_err(|error| failed(&self.place, error))
    }

    fn ask<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.connection
            .query_row(sql, params, read)
            .map_err(|error| failed(&self.place, error))
    }

    fn ask_maybe<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let row = self.connection.query_row(sql, params, read).optional();
        row.map_err(|error| failed(&self.place, error))
    }
}

fn failed(place: &str, error: rusqlite::Error) -> StoreError {
    let place = place.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Foreign {
            place,
            why: "it is no SQLite file".into(),
        },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            place,
            why: error.to_string(),
        },
        _ => StoreError::Failed {
            place,
            why: error.to_string(),
        },
    }
}
