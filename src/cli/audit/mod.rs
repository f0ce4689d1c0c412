//! `db-race audit`

mod asked;
mod history;
mod retire;
mod run;
mod show;
mod tell;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::checks::{Checks, time};
use super::exit::{self, Failure};
use super::{Output, Where, output, signals};
use crate::audit::Moment;
use crate::audit::store::{Location, default_file};
use run::{Begun, Broken};
use tell::{About, Ended, Tell};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    checks: Checks,
    #[command(flatten)]
    memory: MemoryPlace,
    /// Findings that somebody answers for [default: waivers.toml in the folders of the checks]
    #[arg(long, value_name = "FILE")]
    waivers: Option<PathBuf>,
    /// Runs older than this are forgotten; findings never are
    #[arg(long, value_name = "TIME", default_value = "1year", value_parser = time)]
    keep: Duration,
    /// When another audit of the same name is running, say nothing and exit 0
    #[arg(long)]
    skip_if_running: bool,
    #[command(flatten)]
    tell: Tell,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Runs, trends and what is open
    History(history::History),
    /// Everything known about a finding: since when, how often, what happened to it, its row, its waiver
    Show(show::Show),
    /// Close the findings of checks that nobody runs any more
    Retire(retire::Retire),
}

/// Where the memory is.
#[derive(Args, Debug)]
struct MemoryPlace {
    /// The memory: a file, or postgresql://... or service=NAME for a schema there [default: ~/.local/state/db-race/<NAME>.sqlite]
    #[arg(long, value_name = "FILE|URL", env = "DB_RACE_STATE", hide_env_values = true)]
    state: Option<String>,
    /// Audits of one name never run at the same time on a database, and share a memory
    #[arg(long, value_name = "NAME", default_value = "audit", value_parser = name)]
    name: String,
}

impl MemoryPlace {
    fn location(&self) -> Result<Location, Failure> {
        Ok(match &self.state {
            Some(text) => Location::parse(text)?,
            None => Location::File(default_file(&self.name)?),
        })
    }
}

/// It becomes part of a file's name.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !text.is_empty() && !text.starts_with('.') && text.chars().all(is_plain) {
        true => Ok(text.into()),
        false => Err("expected letters, digits, `-`, `_` and `.`".into()),
    }
}

impl Audit {
    pub(super) async fn run(mut self) -> Result<u8, Failure> {
        match self.command.take() {
            Some(AuditCommand::History(history)) => return history.run().await,
            Some(AuditCommand::Show(show)) => return show.run().await,
            Some(AuditCommand::Retire(retire)) => return retire.run().await,
            None => {}
        }
        let receivers = self.tell.receivers()?;
        let stop = signals::listen(true);
        let mut begun = Begun {
            started: Instant::now(),
            started_at: Moment::now(),
            databases: Vec::new(),
            told: None,
            receivers: receivers.clone(),
        };
        let ended = match self.audit(&mut begun, &stop).await {
            Ok(ended) => ended,
            // not even a heartbeat: the one that is running has its own
            Err(Broken::Busy(_)) if self.skip_if_running => return Ok(exit::HELD),
            Err(Broken::Busy(failure)) => Ended::failed(failure, true),
            Err(Broken::Failed { failure, is_news }) => Ended::failed(failure, is_news),
        };
        let about = About {
            name: &self.memory.name,
            databases: begun.databases,
            started_at: begun.started_at.to_string(),
            duration_ms: output::millis(begun.started.elapsed()),
        };
        if let Some(told) = begun.told.take() {
            // the end must not overtake the beginning; it doesn't panic
            let _ = told.await;
        }
        self.tell.end(&receivers, about, &ended).await;
        self.show(ended)
    }

    /// The report on stdout, or the error, where it is to be told.
    fn show(&self, ended: Ended) -> Result<u8, Failure> {
        let is_told = self.tell.is_shown(&ended);
        let mut code = ended.code;
        if let Some(report) = &ended.report {
            // files are for those who ask themselves: they are written also when there is nothing to tell
            code = match is_told {
                true => output::write(&self.output, report, code),
                false => output::write_silently(&self.output, report, code),
            };
        }
        match ended.failure {
            Some(failure) if is_told => Err(failure),
            Some(failure) => Err(failure.silent()),
            None => Ok(code),
        }
    }
}
