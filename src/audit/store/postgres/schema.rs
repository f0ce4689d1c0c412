//! The schema itself: whether it is there and ours, and which version it has.

use super::{DatabaseStore, bounded};
use crate::audit::store::{StoreError, VERSION};

/// The steps from one version to the next; the first one makes version 1.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("../postgres_1.sql"), include_str!("../postgres_2.sql")];

impl DatabaseStore {
    /// The version of the memory that is there; 0 where there is none.
    pub(super) async fn version(&self) -> Result<i64, StoreError> {
        let sql =
            "select to_regnamespace('db_race_audit') is not null, to_regclass('db_race_audit.version') is not null";
        let row = self.one(sql, &[]).await?;
        match (row.get(0), row.get(1)) {
            (false, _) => return Ok(0),
            (true, true) => {}
            (true, false) => {
                return Err(StoreError::Foreign {
                    place: self.place.clone(),
                    why: "its schema db_race_audit has no version".into(),
                });
            }
        }
        let version: i32 = self
            .one("select max(version) from db_race_audit.version", &[])
            .await?
            .get(0);
        match i64::from(version) {
            found if found > VERSION => Err(StoreError::Newer {
                place: self.place.clone(),
                found,
            }),
            found => Ok(found),
        }
    }

    /// Makes it where there is none, or brings it up to date, in one transaction.
    pub(super) async fn migrate(&self, version: i64) -> Result<(), StoreError> {
        let done = usize::try_from(version).unwrap_or_default();
        let steps: String = MIGRATIONS.iter().skip(done).copied().collect();
        if steps.is_empty() {
            return Ok(());
        }
        let sql = format!("begin; {steps} commit");
        let made = self.client.batch_execute(&sql);
        let what = if version == 0 { "make" } else { "bring up to date" };
        bounded(&self.place, made).await.map_err(|error| match error {
            StoreError::Failed { place, why } => StoreError::Failed {
                place,
                why: format!("cannot {what} the schema db_race_audit: {why}"),
            },
            other => other,
        })
    }
}
