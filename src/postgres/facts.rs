//! What a run wants to know of the server it is on.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{Client, Error};

use super::{Target, simple};

/// The server a run took place on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerFacts {
    /// `user@host:port/database`.
    pub address: String,
    /// As the server gives it.
    pub version: String,
    /// As the server gives it: 150018 for 15.18.
    pub version_number: u32,
    /// Whether db-race started it for this run.
    pub throwaway: bool,
    /// `on` or `off`: waiting for the disk widens the windows of races.
    pub fsync: String,
    /// As the server gives it.
    pub synchronous_commit: String,
    /// The default isolation level.
    pub isolation: String,
    /// How long a cycle stands before one of its members is ended.
    pub deadlock_timeout_ms: u64,
}

impl ServerFacts {
    /// `deadlock_timeout` as a length of time.
    pub fn deadlock_timeout(&self) -> Duration {
        Duration::from_millis(self.deadlock_timeout_ms)
    }
}

/// How long the server's counters may take to catch up: backends report them at most once a second.
const STATISTICS_MAX: Duration = Duration::from_millis(1_500);

/// Version and settings that change how races go.
///
/// # Errors
/// When the connection is lost.
pub async fn facts(client: &Client, target: &Target) -> Result<ServerFacts, Error> {
    let mut row = simple::first_row(
        client,
        "select current_setting('server_version'), current_setting('server_version_num'),
                current_setting('fsync'), current_setting('synchronous_commit'),
                current_setting('default_transaction_isolation'),
                (select setting from pg_catalog.pg_settings where name = 'deadlock_timeout')",
    )
    .await?
    .into_iter()
    .map(Option::unwrap_or_default);
    let mut next = || row.next().unwrap_or_default();
    Ok(ServerFacts {
        address: target.address(),
        version: next(),
        version_number: next().parse().unwrap_or_default(),
        fsync: next(),
        synchronous_commit: next(),
        isolation: next(),
        deadlock_timeout_ms: next().parse().unwrap_or_default(),
        throwaway: false,
    })
}

/// Connections the server would still give this user.
pub(crate) async fn free_connections(client: &Client) -> Result<i64, Error> {
    let row = client
        .query_one(
            "select current_setting('max_connections')::int8
                  - case when (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then 0
                    else current_setting('superuser_reserved_connections')::int8
                       + coalesce(current_setting('reserved_connections', true), '0')::int8 end
                  - (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend')",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

/// Deadlocks of this database since its statistics began.
pub(crate) async fn deadlocks(client: &Client) -> Option<i64> {
    let sql = "select deadlocks from pg_catalog.pg_stat_database where datname = current_database()";
    client.query_one(sql, &[]).await.ok()?.get(0)
}

/// Deadlocks since `before`, when there are as many as were met, or when the server has had time to count them.
pub(crate) async fn deadlocks_since(client: &Client, before: i64, met: i64) -> Option<i64> {
    let deadline = tokio::time::Instant::now() + STATISTICS_MAX;
    loop {
        let since = deadlocks(client).await? - before;
        if since >= met || tokio::time::Instant::now() >= deadline {
            return Some(since);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
