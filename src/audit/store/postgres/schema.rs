//! The schema itself: whether it is there and ours, and which version it has.

use super::{DatabaseStore, bounded};
use crate::audit::store::{StoreError, VERSION};

impl DatabaseStore {
    /// Whether there is a memory, of a version that is known.
    pub(super) async fn exists(&self) -> Result<bool, StoreError> {
        let sql =
            "select to_regnamespace('db_race_audit') is not null, to_regclass('db_race_audit.version') is not null";
        let row = self.one(sql, &[]).await?;
        match (row.get(0), row.get(1)) {
            (false, _) => return Ok(false),
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
            _ => Ok(true),
        }
    }

    /// Makes it where there is none.
    pub(super) async fn make(&self) -> Result<(), StoreError> {
        let create = format!("begin; {} commit", include_str!("../postgres_1.sql"));
        let created = bounded(&self.place, self.client.batch_execute(&create)).await;
        created.map_err(|error| match error {
            StoreError::Failed { place, why } => StoreError::Failed {
                place,
                why: format!("cannot make the schema db_race_audit: {why}"),
            },
            other => other,
        })
    }
}
