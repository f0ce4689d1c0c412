//! `db-race audit history`

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{MemoryPlace, time};
use crate::audit::Moment;
use crate::audit::history::history;
use crate::audit::store::Store;
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::report;

#[derive(Args, Debug)]
pub(super) struct History {
    /// The id of a check, or a pattern with `*` [default: all]
    check: Option<String>,
    /// How far to look back
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time)]
    since: Duration,
    #[command(flatten)]
    memory: MemoryPlace,
    /// The form on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = output::Color::Auto)]
    color: output::Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people
    Text,
    /// One document with everything in it
    Json,
}

impl History {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let store = Store::read(&self.memory.location()?).await?;
        let now = Moment::now();
        let since = now.before(self.since);
        let (runs, looks) = (store.runs(since).await?, store.looks(since).await?);
        let open = store.open_findings().await?;
        let retired = store.retired(since).await?;
        let history = history(
            store.place(),
            runs,
            looks,
            open,
            retired,
            self.check.as_deref(),
            since,
            now,
        );
        let mut bytes = Vec::new();
        match self.format {
            Form::Text => report::write_history(&history, output::style(self.color), &mut bytes)?,
            Form::Json => {
                serde_json::to_writer_pretty(&mut bytes, &history).map_err(std::io::Error::from)?;
                bytes.push(b'\n');
            }
        }
        output::quietly(std::io::stdout().lock().write_all(&bytes))?;
        Ok(exit::HELD)
    }
}
