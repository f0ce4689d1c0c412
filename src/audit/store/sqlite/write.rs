//! What a run leaves.

use rusqlite::{Connection, params};

use crate::audit::store::Changes;
use crate::audit::store::rows::{counts_row, json_text};
use crate::audit::{Kept, Subject};

/// Stores what a complete run leaves, in the transaction of the caller.
pub(super) fn changes(transaction: &Connection, run: i64, changes: &Changes) -> rusqlite::Result<()> {
    findings(transaction, &changes.findings)?;
    let mut subject = transaction.prepare("insert or replace into subject values (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
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
            waived,
            run
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
    if let Some(suite) = &changes.whole_suite {
        members(transaction, run, suite, changes)?;
    }
    if let Some(before) = changes.forget_before {
        transaction.execute("delete from event where at < ?1", [before.to_string()])?;
        transaction.execute("delete from run where started_at < ?1", [before.to_string()])?;
    }
    Ok(())
}

/// Stores findings and what happened to them, in the transaction of the caller.
pub(super) fn findings(transaction: &Connection, findings: &[Kept]) -> rusqlite::Result<()> {
    let mut finding = transaction.prepare(
        "insert into finding values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) on conflict do update set \
         last_seen = excluded.last_seen, open_since = excluded.open_since, times_seen = excluded.times_seen, \
         times_back = excluded.times_back, closed_at = excluded.closed_at, closed_why = excluded.closed_why, \
         sample = coalesce(excluded.sample, sample), waiver = excluded.waiver",
    )?;
    let mut event = transaction.prepare("insert into event values (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for kept in findings {
        let known = &kept.known;
        let Subject { database, check } = &known.subject;
        let key = json_text(&known.key);
        finding.execute(params![
            database,
            check,
            key,
            known.first_seen.to_string(),
            known.last_seen.to_string(),
            known.open_since.to_string(),
            i64::try_from(known.times_seen).unwrap_or(i64::MAX),
            i64::try_from(known.times_back).unwrap_or(i64::MAX),
            known.closed.map(|(at, _)| at.to_string()),
            known.closed.map(|(_, why)| why.name()),
            kept.row.as_ref().map(json_text),
            kept.waiver.as_ref().map(json_text),
        ])?;
        if let Some(happened) = &kept.happened {
            let at = happened.at.to_string();
            event.execute(params![database, check, key, at, happened.what.name(), happened.why])?;
        }
    }
    Ok(())
}

/// Notes which checks a suite has on the databases of a run, and which it has no more.
fn members(transaction: &Connection, run: i64, suite: &str, changes: &Changes) -> rusqlite::Result<()> {
    let mut missed = transaction
        .prepare("update member set missed_in = ?3 where suite = ?1 and database = ?2 and missed_in is null")?;
    for database in changes.databases() {
        missed.execute(params![suite, database, run])?;
    }
    let mut here = transaction.prepare("insert or replace into member values (?1, ?2, ?3, null)")?;
    for Subject { database, check } in changes.subjects.keys() {
        here.execute(params![suite, database, check])?;
    }
    Ok(())
}
