//! A memory in a SQLite file, in WAL mode.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    Changes, End, PastLook, PastRun, RunRow, StoreError, VERSION, WAIT_MAX, closed_name, counts_of, counts_row,
    damaged, key_text, known, moment,
};
use crate::audit::compare::Remembered;
use crate::audit::diff::Known;
use crate::audit::{LastFailure, Memory, Moment, Subject};

/// `dbra`: how the file says that it is ours (`PRAGMA application_id`).
const APPLICATION: i64 = 0x6462_7261;
/// The steps from one version to the next; the first one makes an empty file version 1.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("sqlite_1.sql")];

/// An open file.
#[derive(Debug)]
pub struct FileStore {
    connection: Connection,
    place: String,
    /// Held until this is dropped; the system lets go when the process dies.
    _lock: Option<File>,
}

impl FileStore {
    pub(super) fn open(path: &Path) -> Result<FileStore, StoreError> {
        let place = path.display().to_string();
        let unmade = |error: std::io::Error| StoreError::Failed {
            place: place.clone(),
            why: error.to_string(),
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(unmade)?;
        }
        // Keys of findings may be nobody else's business. An empty file is an empty database to SQLite.
        let mut new = OpenOptions::new();
        match new.write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unmade(error)),
            _ => {}
        }
        let lock = lock(path, &place)?;
        let mut connection = connect(path, &place)?;
        let version = check_owner(&connection, &place)?;
        // nothing is written to a file that is damaged
        let check: rusqlite::Result<String> = connection.query_row("pragma quick_check(1)", [], |row| row.get(0));
        match check.map_err(|error| failed(&place, error))? {
            ok if ok == "ok" => {}
            why => return Err(damaged(&place, why)),
        }
        if version < VERSION {
            migrate(&mut connection, &place)?;
        }
        Ok(FileStore {
            connection,
            place,
            _lock: Some(lock),
        })
    }

    pub(super) fn read(path: &Path) -> Result<FileStore, StoreError> {
        let place = path.display().to_string();
        if !path.is_file() || fs::metadata(path).is_ok_and(|file| file.len() == 0) {
            return Err(StoreError::Missing(place));
        }
        let connection = connect(path, &place)?;
        if check_owner(&connection, &place)? == 0 {
            return Err(StoreError::Missing(place));
        }
        Ok(FileStore {
            connection,
            place,
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

    pub(super) fn memory(&self, run: i64, suite: &str, databases: &[String]) -> Result<Memory, StoreError> {
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
                write_changes(&transaction, run, changes)?;
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

/// A lock beside the file: SQLite loses its own locks when somebody else in this process closes the file.
fn lock(path: &Path, place: &str) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |why: std::io::Error| StoreError::Failed {
        place: format!("{place}.lock"),
        why: why.to_string(),
    };
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy(place.to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn connect(path: &Path, place: &str) -> Result<Connection, StoreError> {
    let open = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(WAIT_MAX)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // what is committed survives a crash of the machine, too
        connection.pragma_update(None, "synchronous", "full")?;
        Ok(connection)
    };
    open().map_err(|error| failed(place, error))
}

/// The version of the file; 0 for an empty one. Nothing is written to it.
fn check_owner(connection: &Connection, place: &str) -> Result<i64, StoreError> {
    let number = |pragma: &str| connection.query_row(&format!("pragma {pragma}"), [], |row| row.get::<_, i64>(0));
    let read = || {
        let tables: i64 = connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    match read().map_err(|error| failed(place, error))? {
        (APPLICATION, version, _) if version > VERSION => Err(StoreError::Newer {
            place: place.to_string(),
            found: version,
        }),
        (APPLICATION, version, _) => Ok(version),
        (0, 0, 0) => Ok(0),
        _ => Err(StoreError::Foreign {
            place: place.to_string(),
            why: "it is a SQLite file of another program".into(),
        }),
    }
}

fn migrate(connection: &mut Connection, place: &str) -> Result<(), StoreError> {
    let mut migrate = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "wal")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("pragma user_version", [], |row| row.get(0))?;
        let done = usize::try_from(version).unwrap_or_default();
        for step in MIGRATIONS.iter().skip(done) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()
    };
    migrate().map_err(|error| failed(place, error))
}

fn write_changes(transaction: &Connection, run: i64, changes: &Changes) -> rusqlite::Result<()> {
    let mut finding = transaction.prepare(
        "insert into finding values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) on conflict do update set \
         last_seen = excluded.last_seen, open_since = excluded.open_since, times_seen = excluded.times_seen, \
         times_back = excluded.times_back, closed_at = excluded.closed_at, closed_why = excluded.closed_why",
    )?;
    for known in &changes.findings {
        finding.execute(params![
            known.subject.database,
            known.subject.check,
            key_text(&known.key),
            known.first_seen.to_string(),
            known.last_seen.to_string(),
            known.open_since.to_string(),
            i64::try_from(known.times_seen).unwrap_or(i64::MAX),
            i64::try_from(known.times_back).unwrap_or(i64::MAX),
            known.closed.map(|(at, _)| at.to_string()),
            known.closed.map(|(_, why)| closed_name(why)),
        ])?;
    }
    let mut subject = transaction.prepare("insert or replace into subject values (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut look =
        transaction.prepare("insert into look values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?;
    for (place, now) in &changes.subjects {
        let [new, came_back, open, fixed, check_changed, not_looked_at, waived] = counts_row(&now.counts);
        let Subject { database, check } = place;
        subject.execute(params![
            database,
            check,
            now.fingerprint,
            now.decision,
            now.level,
            waived
        ])?;
        let count = i64::try_from(now.count).unwrap_or(i64::MAX);
        look.execute(params![
            run,
            database,
            check,
            now.decision,
            now.level,
            count,
            now.is_capped,
            new,
            came_back,
            open,
            fixed,
            check_changed,
            not_looked_at,
            waived
        ])?;
    }
    if let Some(before) = changes.forget_before {
        transaction.execute("delete from run where started_at < ?1", [before.to_string()])?;
    }
    Ok(())
}

/// A row of `finding`.
struct FindingRow {
    subject: Subject,
    key: String,
    times: [String; 3],
    seen: [i64; 2],
    closed_at: Option<String>,
    closed_why: Option<String>,
}

fn finding(row: &Row<'_>) -> rusqlite::Result<FindingRow> {
    Ok(FindingRow {
        subject: subject(row)?,
        key: row.get(2)?,
        times: [row.get(3)?, row.get(4)?, row.get(5)?],
        seen: [row.get(6)?, row.get(7)?],
        closed_at: row.get(8)?,
        closed_why: row.get(9)?,
    })
}

impl FindingRow {
    fn known(self, place: &str) -> Result<Known, StoreError> {
        let [first, last, since] = &self.times;
        let closed = (self.closed_at.as_deref(), self.closed_why.as_deref());
        known(place, self.subject, &self.key, [first, last, since], self.seen, closed)
    }
}

fn subject(row: &Row<'_>) -> rusqlite::Result<Subject> {
    Ok(Subject {
        database: row.get(0)?,
        check: row.get(1)?,
    })
}

fn remembered(row: &Row<'_>) -> rusqlite::Result<(Subject, Remembered)> {
    let mut remembered = Remembered {
        fingerprint: row.get(2)?,
        decision: row.get(3)?,
        level: row.get(4)?,
        ..Remembered::default()
    };
    remembered.counts.waived = usize::try_from(row.get::<_, i64>(5)?).unwrap_or_default();
    Ok((subject(row)?, remembered))
}

/// The first seven columns.
fn counts(row: &Row<'_>) -> rusqlite::Result<[i64; 7]> {
    let mut counts = [0; 7];
    for (i, count) in counts.iter_mut().enumerate() {
        *count = row.get(i)?;
    }
    Ok(counts)
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
