//! `db-race contend`

use std::time::Instant;

use clap::{Args, ValueEnum};

use super::exit::{self, Failure};
use super::output::{self, shell_word};
use super::progress::Progress;
use super::{Output, Where, signals};
use crate::contend::{self, Event};
use crate::place::Place;
use crate::report::{Report, SCHEMA};
use crate::scenario::{self, Gate, Overrides, Plan};
use crate::stop::Stop;
use crate::verdict::{self, Terms};

#[derive(Args, Debug)]
pub(super) struct Contend {
    /// A scenario file, or the name of a bundled scenario (`db-race list`)
    scenario: String,
    /// Install this broken twin of a procedure (`db-race list`, or a .sql file)
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Sessions; GROUP=N where the scenario has several groups
    #[arg(long, value_name = "[GROUP=]N")]
    sessions: Vec<String>,
    /// Rounds of setup, race and checks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// What holds sessions so that they strike together
    #[arg(long, value_enum)]
    gate: Option<GateName>,
    /// Connections in the pool; by default as many as sessions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pool: Option<u32>,
    /// Draw keys and parameters as another run did
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave out the serial control: the attempts one after another, before the race
    #[arg(long)]
    no_control: bool,
    /// Leave out the samples of the server's locks: no lock waits, and less is known of deadlocks
    #[arg(long)]
    no_watch: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GateName {
    /// Nothing
    None,
    /// Each step starts at once for all
    Start,
    /// Each step runs up to its first write, then all write at once
    Write,
    /// The same, and nobody commits before all have written (throwaway server only; elsewhere a write gate)
    Commit,
}

impl Contend {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let started = Instant::now();
        let started_at = output::now();
        let stop = signals::listen(self.place.is_users_server());
        let plan = scenario::load(&self.scenario, &self.overrides())?;
        let mut progress = Progress::new(&self.output, &stop);
        progress.show("starting PostgreSQL");
        let place = match self.enter(&plan, &stop).await {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            place => place?,
        };
        let result = tokio::select! {
            result = race(&plan, &place, &stop, &mut progress) => result,
            // what runs ends with its server or its database
            () = stop.insisted(), if place.is_made_for_the_run() => Err(interrupted()),
        };
        let throwaway = place.is_throwaway();
        let left = place.leave().await;
        progress.clear();
        if let Err(problem) = left {
            output::note(&format!("warning: {problem}"));
        }
        let (race, mut server) = match result {
            Err(_) if stop.is_requested() => return Err(interrupted()),
            result => result?,
        };
        server.throwaway = throwaway;
        let verdict = verdict::judge(&plan.rules, &race);
        let code = exit::of(verdict.outcome, race.cut_short.as_deref() == Some("interrupted"));
        let report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            command: "contend",
            started_at,
            duration_ms: output::millis(started.elapsed()),
            verdict,
            terms: Terms::default(),
            server,
            race: Some(race),
            databases: Vec::new(),
            checks: Vec::new(),
            audit: None,
            notes: Vec::new(),
            reproduce: Some(self.command_line(&plan)),
        };
        Ok(output::write(&self.output, &report, code))
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            bug: self.bug.clone(),
            sessions: self.sessions.clone(),
            rounds: self.rounds,
            gate: self.gate.map(|g| match g {
                GateName::None => Gate::None,
                GateName::Start => Gate::Start,
                GateName::Write => Gate::Write,
                GateName::Commit => Gate::Commit,
            }),
            pool: self.pool,
            seed: self.seed,
            no_control: self.no_control,
            no_watch: self.no_watch,
        }
    }

    /// `DATABASE_URL` is for scenarios without a system only: a variable in a shell aims nothing bundled at a server.
    async fn enter(&self, plan: &Plan, stop: &Stop) -> Result<Place, Failure> {
        let target = match plan.system {
            Some(_) => self.place.flagged_target()?,
            None => self.place.target()?,
        };
        Ok(Place::of(plan, target, &self.place.server_options(), stop).await?)
    }

    /// The same run again; without the connection string, which may hold a password.
    fn command_line(&self, plan: &Plan) -> String {
        let mut words = vec!["db-race".to_string(), "contend".into(), self.scenario.clone()];
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value]);
            }
        };
        flag("bug", self.bug.clone());
        self.sessions.iter().for_each(|s| flag("sessions", Some(s.clone())));
        flag("rounds", self.rounds.map(|n| n.to_string()));
        flag("gate", self.overrides().gate.map(|g| g.name().to_string()));
        flag("pool", self.pool.map(|n| n.to_string()));
        flag("seed", Some(plan.seed.to_string()));
        words.extend(self.place.command_line());
        if self.no_control {
            words.push("--no-control".into());
        }
        if self.no_watch {
            words.push("--no-watch".into());
        }
        words.iter().map(|w| shell_word(w)).collect::<Vec<_>>().join(" ")
    }
}

fn interrupted() -> Failure {
    Failure::new(exit::INTERRUPTED, "interrupted before anything was raced")
}

async fn race(
    plan: &Plan,
    place: &Place,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(crate::report::Race, crate::postgres::ServerFacts), Failure> {
    let mut on_event = |event: Event| match event {
        Event::Preparing => progress.show("preparing"),
        Event::Control => progress.show("serial control"),
        Event::Round { round, of } => progress.round(round, of),
        Event::Pulse(pulse) => progress.pulse(&pulse),
    };
    Ok(contend::run(plan, &place.target, stop, &mut on_event).await?)
}
