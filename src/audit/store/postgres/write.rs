//! What a run leaves.

use tokio_postgres::types::Type;

use super::{DatabaseStore, number, text, texts};
use crate::audit::compare::Remembered;
use crate::audit::diff::Known;
use crate::audit::store::rows::{counts_row, json_text};
use crate::audit::store::{Changes, End, StoreError};
use crate::audit::{Kept, Moment, Subject};

impl DatabaseStore {
    /// Notes how a run ended, and with `changes` what it saw, in the transaction of the caller.
    pub(super) async fn write(
        &self,
        run: i64,
        now: Moment,
        end: &End,
        changes: Option<&Changes>,
    ) -> Result<(), StoreError> {
        // nobody begins a run until this one is stored
        self.all("lock table db_race_audit.run in exclusive mode", &[]).await?;
        let newest: i64 = self.one("select max(id) from db_race_audit.run", &[]).await?.get(0);
        if newest != run {
            return Err(StoreError::Overtaken(self.place.clone()));
        }
        let sql = "update db_race_audit.run set ended_at = $2::text::timestamptz, exit_code = $3, complete = $4, checks = $5, \
                   new = $6, came_back = $7, open = $8, fixed = $9, check_changed = $10, not_looked_at = $11, waived = $12, \
                   duration_ms = $13 where id = $1";
        let [new, came_back, open, fixed, check_changed, not_looked_at, waived] = counts_row(&end.counts);
        self.all(
            sql,
            &[
                number(&run),
                text(&now.to_string()),
                (&i32::from(end.exit_code), Type::INT4),
                (&changes.is_some(), Type::BOOL),
                number(&(end.checks as i64)),
                number(&new),
                number(&came_back),
                number(&open),
                number(&fixed),
                number(&check_changed),
                number(&not_looked_at),
                number(&waived),
                number(&i64::try_from(end.duration_ms).unwrap_or(i64::MAX)),
            ],
        )
        .await?;
        let Some(changes) = changes else { return Ok(()) };
        self.write_findings(&changes.findings).await?;
        self.write_subjects(run, changes).await?;
        if let Some(suite) = &changes.whole_suite {
            self.write_members(run, suite, changes).await?;
        }
        if let Some(before) = changes.forget_before {
            let sql = "delete from db_race_audit.event where at < $1::text::timestamptz";
            self.all(sql, &[text(&before.to_string())]).await?;
            let sql = "delete from db_race_audit.run where started_at < $1::text::timestamptz";
            self.all(sql, &[text(&before.to_string())]).await?;
        }
        Ok(())
    }

    /// Findings and what happened to them. All at once: a column is an array.
    pub(super) async fn write_findings(&self, findings: &[Kept]) -> Result<(), StoreError> {
        let each = |of: fn(&Kept) -> String| findings.iter().map(of).collect::<Vec<String>>();
        let maybe = |of: fn(&Kept) -> Option<String>| findings.iter().map(of).collect::<Vec<Option<String>>>();
        let count = |of: fn(&Known) -> u64| {
            let number = |kept: &Kept| i64::try_from(of(&kept.known)).unwrap_or(i64::MAX);
            findings.iter().map(number).collect::<Vec<i64>>()
        };
        let [databases, checks] = [
            each(|k| k.known.subject.database.clone()),
            each(|k| k.known.subject.check.clone()),
        ];
        let keys = each(|k| json_text(&k.known.key));
        let sql = "insert into db_race_audit.finding \
                   select d, c, k::jsonb, f::timestamptz, l::timestamptz, o::timestamptz, s, b, a::timestamptz, w, r::jsonb, v::jsonb \
                   from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int8[], $8::int8[], \
                               $9::text[], $10::text[], $11::text[], $12::text[]) u (d, c, k, f, l, o, s, b, a, w, r, v) \
                   on conflict (database, check_id, key) do update set \
                   last_seen = excluded.last_seen, open_since = excluded.open_since, times_seen = excluded.times_seen, \
                   times_back = excluded.times_back, closed_at = excluded.closed_at, closed_why = excluded.closed_why, \
                   sample = coalesce(excluded.sample, finding.sample), waiver = excluded.waiver";
        self.all(
            sql,
            &[
                texts(&databases),
                texts(&checks),
                texts(&keys),
                texts(&each(|k| k.known.first_seen.to_string())),
                texts(&each(|k| k.known.last_seen.to_string())),
                texts(&each(|k| k.known.open_since.to_string())),
                (&count(|k| k.times_seen), Type::INT8_ARRAY),
                (&count(|k| k.times_back), Type::INT8_ARRAY),
                texts(&maybe(|k| k.known.closed.map(|(at, _)| at.to_string()))),
                texts(&maybe(|k| k.known.closed.map(|(_, why)| why.name().to_string()))),
                texts(&maybe(|k| k.row.as_ref().map(json_text))),
                texts(&maybe(|k| k.waiver.as_ref().map(json_text))),
            ],
        )
        .await?;
        let sql = "insert into db_race_audit.event select d, c, k::jsonb, a::timestamptz, h, w \
                   from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) u (d, c, k, a, h, w) \
                   where h is not null";
        self.all(
            sql,
            &[
                texts(&databases),
                texts(&checks),
                texts(&keys),
                texts(&maybe(|k| Some(k.happened.as_ref()?.at.to_string()))),
                texts(&maybe(|k| Some(k.happened.as_ref()?.what.name().to_string()))),
                texts(&maybe(|k| k.happened.as_ref()?.why.clone())),
            ],
        )
        .await?;
        Ok(())
    }

    /// Notes which checks a suite has on the databases of a run, and which it has no more.
    async fn write_members(&self, run: i64, suite: &str, changes: &Changes) -> Result<(), StoreError> {
        let databases: Vec<&str> = changes.databases().into_iter().collect();
        let sql = "update db_race_audit.member set missed_in = $3 \
                   where suite = $1 and database = any ($2) and missed_in is null";
        self.all(sql, &[text(&suite), texts(&databases), number(&run)]).await?;
        let databases: Vec<&str> = changes.subjects.keys().map(|s| s.database.as_str()).collect();
        let checks: Vec<&str> = changes.subjects.keys().map(|s| s.check.as_str()).collect();
        let sql = "insert into db_race_audit.member select $1, d, c, null from unnest($2::text[], $3::text[]) u (d, c) \
                   on conflict (suite, database, check_id) do update set missed_in = null";
        self.all(sql, &[text(&suite), texts(&databases), texts(&checks)])
            .await?;
        Ok(())
    }

    async fn write_subjects(&self, run: i64, changes: &Changes) -> Result<(), StoreError> {
        for (Subject { database, check }, now) in &changes.subjects {
            let [new, came_back, open, fixed, check_changed, not_looked_at, waived] = counts_row(&now.counts);
            let sql = "insert into db_race_audit.subject values ($1, $2, $3, $4, $5, $6, $7) \
                       on conflict (database, check_id) do update set fingerprint = excluded.fingerprint, \
                       decision = excluded.decision, level = excluded.level, waived = excluded.waived, last_run = excluded.last_run";
            let Remembered {
                fingerprint,
                decision,
                level,
                ..
            } = now;
            self.all(
                sql,
                &[
                    text(database),
                    text(check),
                    text(fingerprint),
                    text(decision),
                    text(level),
                    number(&waived),
                    number(&run),
                ],
            )
            .await?;
            let sql = "insert into db_race_audit.look \
                       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
            let count = i64::try_from(now.count).unwrap_or(i64::MAX);
            self.all(
                sql,
                &[
                    number(&run),
                    text(database),
                    text(check),
                    text(decision),
                    text(level),
                    number(&count),
                    (&now.is_capped, Type::BOOL),
                    number(&new),
                    number(&came_back),
                    number(&open),
                    number(&fixed),
                    number(&check_changed),
                    number(&not_looked_at),
                    number(&waived),
                ],
            )
            .await?;
        }
        Ok(())
    }
}
