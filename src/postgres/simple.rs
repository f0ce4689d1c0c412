//! Questions by the simple protocol: no prepared statement, so nothing is left behind on a connection that a pooler
//! gives to somebody else for the next one.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// The first row of a query, as text; nothing where there is none.
pub(super) async fn first_row(client: &Client, sql: &str) -> Result<Vec<Option<String>>, Error> {
    let messages = client.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(String::from)).collect()),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

/// The first value of a query, as text.
pub(super) async fn value(client: &Client, sql: &str) -> Result<Option<String>, Error> {
    Ok(first_row(client, sql).await?.into_iter().next().flatten())
}

/// The server's process behind a connection.
pub(super) async fn pid(client: &Client) -> Result<i32, Error> {
    let pid = value(client, "select pg_catalog.pg_backend_pid()").await?;
    // always a number; 0 is nobody's
    Ok(pid.and_then(|pid| pid.parse().ok()).unwrap_or(0))
}
