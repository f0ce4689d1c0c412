//! The file itself: whose it is, who has it, and which version it has.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::failed;
use crate::audit::store::rows::damaged;
use crate::audit::store::{StoreError, VERSION, WAIT_MAX};

/// `dbra`: how the file says that it is ours (`PRAGMA application_id`).
const APPLICATION: i64 = 0x6462_7261;
/// The steps from one version to the next; the first one makes an empty file version 1.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("../sqlite_1.sql"), include_str!("../sqlite_2.sql")];

/// Opens a file for a run, and makes it where there is none; with the lock on it.
pub(super) fn open(path: &Path, place: &str) -> Result<(Connection, File), StoreError> {
    let unmade = |error: std::io::Error| StoreError::Failed {
        place: place.to_string(),
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
    let lock = lock(path, place)?;
    let mut connection = connect(path, place)?;
    let version = check_owner(&connection, place)?;
    // nothing is written to a file that is damaged
    let check: rusqlite::Result<String> = connection.query_row("pragma quick_check(1)", [], |row| row.get(0));
    match check.map_err(|error| failed(place, error))? {
        ok if ok == "ok" => {}
        why => return Err(damaged(place, why)),
    }
    if version < VERSION {
        migrate(&mut connection, place)?;
    }
    Ok((connection, lock))
}

/// Opens a file to read it, and tells its version.
pub(super) fn read(path: &Path, place: &str) -> Result<(Connection, i64), StoreError> {
    let missing = || StoreError::Missing(place.to_string());
    if !path.is_file() || fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Err(missing());
    }
    let connection = connect(path, place)?;
    match check_owner(&connection, place)? {
        0 => Err(missing()),
        version => Ok((connection, version)),
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
