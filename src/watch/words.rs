//! Locks as the server names them in the DETAIL of a deadlock (`DescribeLockTag` in PostgreSQL's lmgr.c). Where a deadlock
//! is seen before anybody waits, nothing else tells what was wanted.

use super::graph::{Place, row_lock, table_lock};

/// Reads `ExclusiveLock on advisory lock [5,0,2,1]`, `ShareLock on relation 16385 of database 5` and
/// `ExclusiveLock on tuple (0,2) of relation 16385 of database 5`; the table still lacks its name.
pub(super) fn read(lock: &str) -> Option<Place> {
    let (mode, object) = lock.split_once(" on ")?;
    let place = Place::default();
    if let Some(tag) = object.strip_prefix("advisory lock ") {
        return Some(Place {
            relation: Some(format!("advisory lock {}", advisory(tag)?)),
            lock: Some(table_lock(mode)),
            ..place
        });
    }
    if let Some(rest) = object.strip_prefix("tuple ") {
        let (row, rest) = rest.split_once(" of relation ")?;
        return Some(Place {
            oid: oid(rest),
            row: Some(row.to_string()),
            lock: row_lock(mode).map(String::from),
            ..place
        });
    }
    Some(Place {
        oid: Some(oid(object.strip_prefix("relation ")?)?),
        lock: Some(table_lock(mode)),
        ..place
    })
}

fn oid(text: &str) -> Option<u32> {
    text.split(' ').next()?.parse().ok()
}

/// `[database, upper half, lower half, 1]` is a lock of one bigint, `[..., 2]` one of two integers.
fn advisory(tag: &str) -> Option<String> {
    let parts: Vec<u32> = tag
        .trim_matches(['[', ']'])
        .split(',')
        .map_while(|part| part.parse().ok())
        .collect();
    match parts.as_slice() {
        [_, upper, lower, 1] => Some(
            ((u64::from(*upper) << 32) | u64::from(*lower))
                .cast_signed()
                .to_string(),
        ),
        [_, first, second, 2] => Some(format!("({first}, {second})")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read_from_the_servers_words() {
        let advisory = read("ExclusiveLock on advisory lock [5,0,2,1]").unwrap();
        assert_eq!(advisory.relation.as_deref(), Some("advisory lock 2"));
        let pair = read("ShareLock on advisory lock [5,7,2,2]").unwrap();
        assert_eq!(
            (pair.relation.as_deref(), pair.lock.as_deref()),
            (Some("advisory lock (7, 2)"), Some("SHARE"))
        );
        let table = read("RowExclusiveLock on relation 16385 of database 5").unwrap();
        assert_eq!(
            (table.oid, table.lock.as_deref()),
            (Some(16_385), Some("ROW EXCLUSIVE"))
        );
        let row = read("AccessExclusiveLock on tuple (0,2) of relation 16385 of database 5").unwrap();
        assert_eq!(
            (row.oid, row.row.as_deref(), row.lock.as_deref()),
            (Some(16_385), Some("(0,2)"), Some("FOR UPDATE"))
        );
        assert_eq!(read("ShareLock on transaction 740"), None);
        assert_eq!(read("wartet auf etwas"), None);
    }
}
