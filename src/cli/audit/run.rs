//! One run: what the checks find now, against what is remembered.

use std::time::Instant;

use tokio::task::JoinHandle;

use super::Audit;
use super::asked::name_of;
use super::tell::{Ended, Receivers, Tell};
use crate::audit::overlap::{Guard, OverlapError};
use crate::audit::store::{Changes, End, Store, StoreError};
use crate::audit::{self, Comparison, Moment, Waivers, database_name};
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::verify::{server, shown};
use crate::postgres::ServerFacts;
use crate::report::{Report, SCHEMA};
use crate::stop::Stop;
use crate::verdict::{self, Judged, Terms};
use crate::verify::{self, Check, CheckResult, DatabaseResult, Decision, Named, Options};

/// What a run has so far, for when it breaks off.
pub(super) struct Begun {
    pub(super) started: Instant,
    pub(super) started_at: Moment,
    pub(super) databases: Vec<String>,
    /// The heartbeat's beginning, under way.
    pub(super) told: Option<JoinHandle<()>>,
    pub(super) receivers: Receivers,
}

impl Audit {
    /// From the checks' files to what is remembered.
    pub(super) async fn audit(&self, begun: &mut Begun, stop: &Stop) -> Result<Ended, Broken> {
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
            terms: Terms::default(),
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
}

fn interrupted() -> Failure {
    Failure::new(exit::INTERRUPTED, "interrupted; the memory is as it was")
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
pub(super) enum Broken {
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
