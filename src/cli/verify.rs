//! `db-race verify`

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::exit::{self, Failure};
use super::progress::Progress;
use super::{Output, Where, output, signals};
use crate::place::Place;
use crate::postgres::{self, ServerFacts, explain};
use crate::report::{Report, SCHEMA};
use crate::stop::Stop;
use crate::system::System;
use crate::verdict;
use crate::verify::{self, Check, Looked, Options};

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// Check files, folders of them, or bundled names (`db-race list`)
    #[arg(required = true)]
    checks: Vec<String>,
    /// Checks run at the same time, each on a connection of its own
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// After this a check is cancelled, and counts as not decided
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// Violating rows that are shown of each check
    #[arg(long, value_name = "N", default_value_t = 5)]
    sample: usize,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    pub(super) output: Output,
}

fn interrupted() -> Failure {
    Failure::new(exit::INTERRUPTED, "interrupted before anything was checked")
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected a length of time like 500ms, 30s or 2m".into()),
    }
}

impl Verify {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let started = Instant::now();
        let started_at = output::now();
        let stop = signals::listen(self.place.is_users_server());
        let mut checks = Vec::new();
        for name in &self.checks {
            checks.extend(verify::find(name, Path::new(""))?);
        }
        let progress = Progress::new(&self.output, &stop);
        progress.show("connecting");
        let place = match self.enter(&checks, &stop).await {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            place => place?,
        };
        progress.show(&format!("running {} checks", checks.len()));
        let result = self.verify(&place, &checks, &stop).await;
        let throwaway = place.is_throwaway();
        let left = place.leave().await;
        progress.clear();
        if let Err(problem) = left {
            output::note(&format!("warning: {problem}"));
        }
        let (looked, mut server) = match result {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            result => result?,
        };
        server.throwaway = throwaway;
        let verdict = verdict::judge_checks(&looked.checks);
        let code = exit::of(verdict.outcome, stop.is_requested());
        let report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            command: "verify",
            started_at,
            duration_ms: output::millis(started.elapsed()),
            verdict,
            server,
            race: None,
            databases: vec![looked.database],
            checks: looked.checks,
            audit: None,
            notes: Vec::new(),
            reproduce: None,
        };
        Ok(output::write(&self.output, &report, code))
    }

    async fn verify(&self, place: &Place, checks: &[Check], stop: &Stop) -> Result<(Looked, ServerFacts), Failure> {
        let options = Options {
            jobs: usize::from(self.jobs),
            timeout: self.timeout,
            sample: self.sample,
            ..Options::default()
        };
        let client = place.target.connect("control").await?;
        let facts = postgres::facts(&client, &place.target).await;
        let facts = facts.map_err(|error| Failure::new(exit::UNREACHABLE, explain(&error)))?;
        let looked = verify::run(&place.target, checks, &options, stop).await?;
        Ok((looked, facts))
    }

    /// Without connection settings, the checks of a bundled system are run on that system, as seeded.
    async fn enter(&self, checks: &[Check], stop: &Stop) -> Result<Place, Failure> {
        if let Some(target) = self.place.target()? {
            return Ok(Place::existing(target));
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
        Ok(place.with(&system, None, stop).await?)
    }
}
