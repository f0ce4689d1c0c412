//! A connection to a database, for code that is not async.

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::runtime;

pub struct Database {
    runtime: Runtime,
    client: Client,
}

impl Database {
    pub fn connect(url: &str) -> Database {
        Database::try_connect(url).unwrap_or_else(|| panic!("cannot connect to {url}"))
    }

    pub fn try_connect(url: &str) -> Option<Database> {
        let runtime = runtime();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).ok()?;
        runtime.spawn(connection);
        Some(Database { runtime, client })
    }

    /// Runs statements.
    #[track_caller]
    pub fn exec(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    }

    /// The rows of a query, as text.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = self.runtime.block_on(self.client.simple_query(sql));
        let messages = messages.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or("NULL").to_string())
                    .collect(),
            ),
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    /// The one value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        self.rows(sql)
            .into_iter()
            .flatten()
            .next()
            .unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// Whether a query's one value is true.
    #[track_caller]
    pub fn is(&self, condition: &str) -> bool {
        self.value(&format!("select {condition}")) == "t"
    }
}
