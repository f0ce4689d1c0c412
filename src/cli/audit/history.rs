//! `db-race audit history`

use std::time::Duration;

use clap::Args;

use super::{MemoryPlace, time};
use crate::audit::Moment;
use crate::audit::history::history;
use crate::audit::store::Store;
use crate::cli::exit::{self, Failure};
use crate::cli::{Output, output};

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The id of a check, or a pattern with `*` [default: all]
    check: Option<String>,
    /// How far to look back
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = time)]
    since: Duration,
    #[command(flatten)]
    memory: MemoryPlace,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let store = Store::read(&self.memory.location()?).await?;
        let now = Moment::now();
        let since = now.before(self.since);
        let (runs, looks) = (store.runs(since).await?, store.looks(since).await?);
        let open = store.open_findings().await?;
        let history = history(store.place(), runs, looks, open, self.check.as_deref(), since, now);
        output::write_history(&self.output, &history)?;
        Ok(exit::HELD)
    }
}
