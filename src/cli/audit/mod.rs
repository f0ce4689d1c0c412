//! `db-race audit`

mod history;
mod retire;
mod show;
mod tell;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tokio::task::JoinHandle;

use super::checks::{Checks, time};
use super::exit::{self, Failure};
use super::progress::Progress;
use super::verify::{server, shown};
use super::{Output, Where, output, signals};
use crate::audit::overlap::{Guard, OverlapError};
use crate::audit::store::{Changes, End, Location, Store, StoreError, default_file};
use crate::audit::{self, Checks as KnownChecks, Comparison, Moment, Waivers, database_name};
use crate::bundled::Shelf;
use crate::postgres::ServerFacts;
use crate::report::{Report, SCHEMA};
use crate::stop::Stop;
use crate::verdict::{self, Judged};
use crate::verify::{self, Check, CheckResult, DatabaseResult, Decision, Named, Options};
use tell::{About, Ended, Receivers, Tell};

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

/// What a run has so far, for when it breaks off.
struct Begun {
    started: Instant,
    started_at: Moment,
    databases: Vec<String>,
    /// The heartbeat's beginning, under way.
    told: Option<JoinHandle<()>>,
    receivers: Receivers,
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

    async fn audit(&self, begun: &mut Begun, stop: &Stop) -> Result<Ended, Broken> {
        let mut checks = self.checks.find()?;
        let whole_suite = self.whole_suite(&checks)?;
        // what a check asks depends on them
        for (name, value) in self.checks.options().params {
            for check in &mut checks {
                check.params.entry(name.clone()).and_modify(|v| v.clone_from(&value));
            }
        }
        let databases = self.databases()?;
        begun.databases = databases.iter().map(name_of).collect();
        let location = self.memory.location()?;
        let mut store = Store::open(&location).await?;
        let waivers = self.waivers(&checks, store.check_ids().await?)?;
        begun.told = Some(Tell::start(&begun.receivers));
        let suite = self.suite(&checks, &begun.databases);
        let run = store.begin(&suite, begun.started_at).await?;
        let progress = Progress::new(&self.output, stop);
        progress.show("connecting");
        let looked = self.look(&databases, &checks, &progress, stop).await;
        progress.clear();
        let ended = match looked {
            Ok(looked) => {
                let whole_suite = whole_suite.as_deref();
                let run = Run {
                    id: run,
                    suite: &suite,
                    whole_suite,
                };
                self.compare(begun, &mut store, run, looked, &checks, &waivers, stop)
                    .await
            }
            Err(Broken::Failed { .. }) if stop.is_requested() => Err(interrupted().into()),
            Err(broken) => Err(broken),
        };
        match ended {
            Err(Broken::Failed { failure, .. }) => {
                let is_news = self.note_attempt(begun, &mut store, run, &suite, &failure).await;
                Err(Broken::Failed { failure, is_news })
            }
            Err(Broken::Busy(failure)) => {
                self.note_attempt(begun, &mut store, run, &suite, &failure).await;
                Err(Broken::Busy(failure))
            }
            Ok(ended) => Ok(ended),
        }
    }

    /// Notes that a run came to nothing, and tells whether the one before didn't come to the same.
    async fn note_attempt(&self, begun: &Begun, store: &mut Store, run: i64, suite: &str, failure: &Failure) -> bool {
        let end = End {
            exit_code: failure.code,
            duration_ms: output::millis(begun.started.elapsed()),
            ..End::default()
        };
        if let Err(error) = store.end(run, Moment::now(), &end, None).await {
            output::note(&format!("warning: {error}"));
            return true;
        }
        let before = store
            .memory(run, suite, None, &[])
            .await
            .ok()
            .and_then(|memory| memory.last_failure);
        before.and_then(|before| before.exit_code) != Some(failure.code)
    }

    fn databases(&self) -> Result<Vec<Named>, Failure> {
        let listed = self.checks.listed()?;
        if !listed.is_empty() {
            return match self.place.flagged_target()? {
                Some(_) => Err(Failure::new(
                    exit::USAGE,
                    "--databases says where, so no other flag can",
                )),
                None => Ok(listed),
            };
        }
        let databases: Vec<Named> = self.place.targets()?.into_iter().map(Named::from).collect();
        match databases.is_empty() {
            false => Ok(databases),
            true => Err(Failure::new(
                exit::USAGE,
                "an audit needs a database: give --url, -h or -d, or set DATABASE_URL, PGSERVICE or PGHOST",
            )),
        }
    }

    /// What tells runs apart that are not each other's successors.
    fn suite(&self, checks: &[Check], databases: &[String]) -> String {
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        format!("{} on {}", ids.join(" "), databases.join(" "))
    }

    /// The name of the suite, where none of its checks is left out: only such a run can miss one. What its checks are made of is its name, so
    /// suites that share a memory are kept apart, wherever they are run.
    fn whole_suite(&self, checks: &[Check]) -> Result<Option<String>, Failure> {
        let mut all = BTreeSet::new();
        for name in &self.checks.checks {
            all.extend(verify::find(name, Path::new(""))?.into_iter().map(|check| check.id));
        }
        let is_whole = all.iter().all(|id| checks.iter().any(|check| check.id == *id));
        let path = |name: &String| match std::fs::canonicalize(name) {
            Ok(path) => path.display().to_string(),
            // it is in the binary
            Err(_) => name.clone(),
        };
        let names: BTreeSet<String> = self.checks.checks.iter().map(path).collect();
        Ok(is_whole.then(|| names.into_iter().collect::<Vec<_>>().join(" ")))
    }

    async fn look(
        &self,
        databases: &[Named],
        checks: &[Check],
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Seen, Broken> {
        let mut guards = Vec::new();
        for database in databases {
            match Guard::take(&database.target, "overlap", &self.memory.name).await {
                Ok(guard) => guards.push(guard),
                // one of several that isn't there has checks that could not be decided
                Err(OverlapError::Connect(_)) if databases.len() > 1 => {}
                Err(error) => return Err(error.into()),
            }
        }
        let options = Options {
            keep_keys: true,
            ..self.checks.options()
        };
        let on = |at: verify::Progress| progress.show(&shown(&at, databases.len()));
        let found = verify::run_all(databases, checks, &options, stop, &on).await;
        let found = found.map_err(Failure::from)?;
        Ok(Seen {
            server: server(databases, &found).await,
            databases: found.databases,
            checks: found.checks,
        })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a run")]
    async fn compare(
        &self,
        begun: &Begun,
        store: &mut Store,
        run: Run<'_>,
        seen: Seen,
        checks: &[Check],
        waivers: &Waivers,
        stop: &Stop,
    ) -> Result<Ended, Broken> {
        // a check that was cut off could be a check that fails: who stopped the run is not told that it did
        if stop.is_requested() && seen.checks.iter().any(|c| c.decision == Decision::CouldNotDecide) {
            return Err(interrupted().into());
        }
        let names: Vec<String> = seen.databases.iter().map(database_name).collect();
        let memory = store.memory(run.id, run.suite, run.whole_suite, &names).await?;
        let last_failure = memory.last_failure;
        let Comparison {
            mut result,
            judged,
            findings,
            subjects,
        } = audit::compare(memory, &seen.databases, &seen.checks, checks, waivers, begun.started_at);
        result.state = store.place().into();
        let verdict = verdict::judge_checks(&judged);
        let code = exit::of(verdict.outcome, false);
        let duration_ms = output::millis(begun.started.elapsed());
        let end = End {
            exit_code: code,
            checks: seen.checks.len(),
            counts: result.counts,
            duration_ms,
        };
        let changes = Changes {
            findings,
            subjects,
            whole_suite: run.whole_suite.map(str::to_string),
            forget_before: Some(begun.started_at.before(self.keep)),
        };
        let stored = store.end(run.id, Moment::now(), &end, Some(&changes)).await;
        let changed = result.changed;
        let mut notes: Vec<String> = Vec::new();
        for database in &seen.databases {
            notes.extend(database.problem.iter().chain(&database.notes).cloned());
        }
        notes.extend(last_failure.map(|last| match last.exit_code {
            Some(code) => format!(
                "the run before this one, at {}, was {}",
                last.at,
                audit::history::ending(code)
            ),
            None => format!("the run before this one, at {}, did not end", last.at),
        }));
        let mut report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            command: "audit",
            started_at: begun.started_at.to_string(),
            duration_ms,
            verdict,
            server: seen.server,
            race: None,
            databases: seen.databases,
            checks: judged,
            audit: Some(result),
            notes,
            reproduce: None,
        };
        Ok(match stored {
            Ok(()) => Ended {
                code,
                changed,
                report: Some(report),
                failure: None,
            },
            // what was seen is told all the same
            Err(error) => {
                let code = if code == exit::VIOLATED {
                    code
                } else {
                    exit::INCONCLUSIVE
                };
                // no form of the report is green either
                if code == exit::INCONCLUSIVE {
                    report.verdict.outcome = Judged::Inconclusive;
                    report.verdict.reasons.push(error.to_string());
                }
                Ended {
                    code,
                    changed: true,
                    report: Some(report),
                    failure: Some(Failure::new(code, error)),
                }
            }
        })
    }

    /// The waivers of the file that is named, or of those beside the checks.
    fn waivers(&self, checks: &[Check], remembered: Vec<String>) -> Result<Waivers, Failure> {
        let mut known: KnownChecks = remembered.into_iter().map(|id| (id, None)).collect();
        for folder in Shelf::Checks.folders() {
            let bundled = verify::find(&folder, Path::new("/nonexistent"))?;
            known.extend(bundled.into_iter().map(|check| (check.id, Some(check.key))));
        }
        known.extend(checks.iter().map(|check| (check.id.clone(), Some(check.key.clone()))));
        if let Some(path) = &self.waivers {
            return Ok(Waivers::read(path, &known)?);
        }
        let beside: Vec<PathBuf> = self
            .checks
            .checks
            .iter()
            .map(|name| Path::new(name).join("waivers.toml"))
            .filter(|path| path.is_file())
            .collect();
        match beside.as_slice() {
            [] => Ok(Waivers::default()),
            [path] => Ok(Waivers::read(path, &known)?),
            [first, second, ..] => {
                let (first, second) = (first.display(), second.display());
                let why = format!("there are waivers in {first} and in {second}: say which by --waivers");
                Err(Failure::new(exit::USAGE, why))
            }
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(exit::INTERRUPTED, "interrupted; the memory is as it was")
}

/// The name that findings of a database are remembered under.
fn name_of(database: &Named) -> String {
    match database.name == database.target.address() {
        true => audit::place_name(&database.name).to_string(),
        false => database.name.clone(),
    }
}

/// A run, as the memory knows it.
#[derive(Clone, Copy)]
struct Run<'a> {
    id: i64,
    suite: &'a str,
    whole_suite: Option<&'a str>,
}

/// What the checks found.
#[derive(Default)]
struct Seen {
    server: ServerFacts,
    databases: Vec<DatabaseResult>,
    checks: Vec<CheckResult>,
}

/// Why there is no comparison.
enum Broken {
    /// Another run is at it.
    Busy(Failure),
    Failed {
        failure: Failure,
        /// Whether the run before failed otherwise, or not at all.
        is_news: bool,
    },
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Failed { failure, is_news: true }
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Broken {
        match error {
            StoreError::Busy(_) => Broken::Busy(error.into()),
            error => Failure::from(error).into(),
        }
    }
}

impl From<OverlapError> for Broken {
    fn from(error: OverlapError) -> Broken {
        match error {
            OverlapError::Busy(_) => Broken::Busy(error.into()),
            error => Failure::from(error).into(),
        }
    }
}
