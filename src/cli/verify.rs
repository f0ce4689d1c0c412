//! `db-race verify`

use std::path::Path;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::checks::Checks;
use super::exit::{self, Failure};
use super::progress::Progress;
use super::{Output, Where, output, signals};
use crate::place::Place;
use crate::postgres::{self, ServerFacts};
use crate::report::{Report, SCHEMA};
use crate::stop::Stop;
use crate::system::System;
use crate::verdict::{self, Terms, Undecided};
use crate::verify::{self, Check, Found, Named};

#[derive(Args, Debug)]
pub(super) struct Verify {
    #[command(flatten)]
    checks: Checks,
    /// Warnings fail the run, too: exit code 2 instead of 1
    #[arg(long)]
    strict: bool,
    /// What checks that could not be decided make of the exit code, unless something is worse: 2, 1 or 0 [default: 3]
    #[arg(long, value_enum, value_name = "HOW")]
    inconclusive: Option<Inconclusive>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Inconclusive {
    /// As if they were violated
    Fail,
    /// As if they were warnings
    Warn,
    /// As if they held
    Ok,
}

fn interrupted() -> Failure {
    Failure::new(exit::INTERRUPTED, "interrupted before anything was checked")
}

impl Verify {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let started = Instant::now();
        let started_at = output::now();
        let checks = self.checks.find()?;
        let listed = self.checks.listed()?;
        let stop = signals::listen(self.place.is_users_server() || !listed.is_empty());
        let progress = Progress::new(&self.output, &stop);
        progress.show("connecting");
        let (databases, made) = match self.enter(&checks, listed, &stop).await {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            entered => entered?,
        };
        progress.show(&format!("running {} checks", checks.len()));
        let options = self.checks.options();
        let on = |at: verify::Progress| progress.show(&shown(&at, databases.len()));
        let result = verify::run_all(&databases, &checks, &options, &stop, &on).await;
        let server = match &result {
            Ok(found) => server(&databases, found).await,
            Err(_) => ServerFacts::default(),
        };
        let throwaway = made.is_some();
        let left = match made {
            Some(place) => place.leave().await,
            None => Ok(()),
        };
        progress.clear();
        if let Err(problem) = left {
            output::note(&format!("warning: {problem}"));
        }
        let found = match result {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            result => result?,
        };
        let verdict = verdict::judge_checks(&found.checks);
        let interrupted = stop.is_requested();
        let terms = self.terms(interrupted);
        let problems = found.databases.iter().filter_map(|d| d.problem.clone());
        let notes = problems
            .chain(found.databases.iter().flat_map(|d| d.notes.clone()))
            .collect();
        let report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            command: "verify",
            started_at,
            duration_ms: output::millis(started.elapsed()),
            verdict,
            terms,
            server: ServerFacts { throwaway, ..server },
            race: None,
            databases: found.databases,
            checks: found.checks,
            audit: None,
            notes,
            reproduce: Some(self.command_line()),
        };
        let code = exit::of(report.judged(), interrupted);
        Ok(output::write(&self.output, &report, code))
    }

    /// What the flags make of the verdict; of a run that was interrupted, nothing.
    fn terms(&self, interrupted: bool) -> Terms {
        let undecided = match self.inconclusive {
            None => Undecided::Inconclusive,
            Some(Inconclusive::Fail) => Undecided::Fails,
            Some(Inconclusive::Warn) => Undecided::Warns,
            Some(Inconclusive::Ok) => Undecided::Passes,
        };
        match interrupted {
            true => Terms::default(),
            false => Terms {
                strict: self.strict,
                undecided,
            },
        }
    }

    fn command_line(&self) -> String {
        let mut words = vec!["db-race verify".to_string()];
        words.extend(self.checks.words());
        words.extend(self.place.command_line().iter().map(|w| output::shell_word(w)));
        words.join(" ")
    }

    /// The databases, and the server that was made for them: without connection settings, the checks of a bundled system are run on that
    /// system, as seeded.
    async fn enter(
        &self,
        checks: &[Check],
        listed: Vec<Named>,
        stop: &Stop,
    ) -> Result<(Vec<Named>, Option<Place>), Failure> {
        if !listed.is_empty() {
            return match self.place.flagged_target()? {
                Some(_) => Err(Failure::new(
                    exit::USAGE,
                    "--databases says where, so no other flag can",
                )),
                None => Ok((listed, None)),
            };
        }
        let databases: Vec<Named> = self.place.targets()?.into_iter().map(Named::from).collect();
        if !databases.is_empty() {
            return Ok((databases, None));
        }
        let bundled = crate::bundled::Shelf::Sql.folders();
        let of_system = |c: &Check| {
            c.source
                .name
                .strip_prefix("checks/")?
                .split_once('/')
                .map(|(s, _)| s.to_string())
        };
        let system = checks.first().and_then(of_system).filter(|s| bundled.contains(s));
        let Some(name) = system.filter(|s| checks.iter().all(|c| of_system(c).as_ref() == Some(s))) else {
            return Err(Failure::new(
                exit::USAGE,
                "these checks need a database: give --url, -h or -d, or set DATABASE_URL, PGSERVICE or PGHOST",
            ));
        };
        let system = System::find(&name, Path::new(""))?;
        let place = Place::throwaway(&self.place.server_options(), stop).await?;
        let place = place.with(&system, None, stop).await?;
        Ok((vec![Named::from(place.target.clone())], Some(place)))
    }
}

/// The server of the first database that could be looked at.
pub(super) async fn server(databases: &[Named], found: &Found) -> ServerFacts {
    let looked_at = databases
        .iter()
        .zip(&found.databases)
        .find(|(_, d)| d.problem.is_none());
    let Some((named, database)) = looked_at else {
        return ServerFacts::default();
    };
    let known = ServerFacts {
        address: database.address.clone(),
        version: database.version.clone(),
        ..ServerFacts::default()
    };
    match named.target.connect("control").await {
        Ok(client) => postgres::facts(&client, &named.target).await.unwrap_or(known),
        Err(_) => known,
    }
}

/// How far a run is, in words.
pub(super) fn shown(at: &verify::Progress, databases: usize) -> String {
    let mut text = format!("{} of {} checks", at.done, at.of);
    if databases > 1 {
        text = format!("database {} of {databases}: {text}", at.database + 1);
    }
    if let Some((id, done, of)) = &at.walking {
        text.push_str(&format!(", {id}: {done} of {of} ranges"));
    }
    text
}
