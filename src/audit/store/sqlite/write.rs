//! What a run leaves.

use rusqlite::{Connection, params};

use crate::audit::Subject;
use crate::audit::store::{Changes, closed_name, counts_row, key_text};

/// Stores what a complete run leaves, in the transaction of the caller.
pub(super) fn changes(transaction: &Connection, run: i64, changes: &Changes) -> rusqlite::Result<()> {
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
