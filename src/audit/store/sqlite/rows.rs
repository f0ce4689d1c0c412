//! What rows say.

use rusqlite::Row;

use crate::audit::Subject;
use crate::audit::compare::Remembered;
use crate::audit::diff::Known;
use crate::audit::store::StoreError;
use crate::audit::store::rows::known;

/// A row of `finding`.
pub(super) struct FindingRow {
    pub(super) subject: Subject,
    pub(super) key: String,
    times: [String; 3],
    seen: [i64; 2],
    closed_at: Option<String>,
    closed_why: Option<String>,
}

pub(super) fn finding(row: &Row<'_>) -> rusqlite::Result<FindingRow> {
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
    pub(super) fn known(self, place: &str) -> Result<Known, StoreError> {
        let [first, last, since] = &self.times;
        let closed = (self.closed_at.as_deref(), self.closed_why.as_deref());
        known(place, self.subject, &self.key, [first, last, since], self.seen, closed)
    }
}

pub(super) fn subject(row: &Row<'_>) -> rusqlite::Result<Subject> {
    Ok(Subject {
        database: row.get(0)?,
        check: row.get(1)?,
    })
}

pub(super) fn remembered(row: &Row<'_>) -> rusqlite::Result<(Subject, Remembered)> {
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
pub(super) fn counts(row: &Row<'_>) -> rusqlite::Result<[i64; 7]> {
    let mut counts = [0; 7];
    for (i, count) in counts.iter_mut().enumerate() {
        *count = row.get(i)?;
    }
    Ok(counts)
}
