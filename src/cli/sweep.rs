//! `db-race sweep`

use clap::Args;

use super::exit::{self, Failure};
use super::output::{self, shell_word};
use super::progress::Progress;
use super::{Output, Where, signals};
use crate::contend;
use crate::place::Place;
use crate::postgres::ServerFacts;
use crate::scenario::{self, Gate, Overrides, Plan};
use crate::stop::Stop;
use crate::sweep::{self, SCHEMA, Sample, Sizes, Sweep as Measurements};

#[derive(Args, Debug)]
pub(super) struct Sweep {
    /// A scenario file, or the name of a bundled scenario (`db-race list`)
    scenario: String,
    /// Connections in the pool: 5..100, or 5,10,20
    #[arg(long, value_name = "SIZES")]
    pool: Option<Sizes>,
    /// Sessions: 5..100, or 5,10,20; GROUP=SIZES where the scenario has several groups
    #[arg(long, value_name = "[GROUP=]SIZES")]
    sessions: Option<String>,
    /// Sizes to measure of a range; they grow by the same factor
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=100))]
    points: u32,
    /// Runs of each size, for the spread
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Install this broken twin of a procedure (`db-race list`, or a .sql file)
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Draw keys and parameters as another run did
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    output: Output,
}

/// What is swept: the pool, or the sessions of a group.
struct Swept {
    of: &'static str,
    /// `GROUP=`, where it was given.
    group: String,
    sizes: Vec<u32>,
    /// What stays the same: the pool of a sweep over sessions, and the other way round.
    fixed: Option<u32>,
}

/// The runs as far as they came.
#[derive(Default)]
struct Measured {
    /// By size.
    samples: Vec<Vec<Sample>>,
    server: Option<ServerFacts>,
    problems: Vec<String>,
    /// The first error, should nothing be measured.
    error: Option<Failure>,
}

impl Sweep {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        output::for_sweep(&self.output)?;
        let stop = signals::listen(self.place.is_users_server());
        let swept = self.swept()?;
        let seed = match self.seed {
            Some(seed) => seed,
            None => scenario::load(&self.scenario, &Overrides::default())?.seed,
        };
        let mut plans = Vec::new();
        for size in &swept.sizes {
            let mut plan = scenario::load(&self.scenario, &self.overrides(&swept, *size, seed))?;
            // a sweep measures and does not judge
            plan.checks.clear();
            plan.rules.clear();
            plans.push(plan);
        }
        let largest = plans.iter().max_by_key(|p| p.connections_at_start());
        let Some(largest) = largest else {
            return Err(Failure::new(exit::USAGE, "there is no size to measure"));
        };
        let progress = Progress::new(&self.output, &stop);
        progress.show("starting PostgreSQL");
        let place = self.enter(largest, &stop).await?;
        let measured = self.measure(&plans, &swept, &place, &stop, &progress).await;
        let throwaway = place.is_throwaway();
        let left = place.leave().await;
        progress.clear();
        if let Err(problem) = left {
            output::note(&format!("warning: {problem}"));
        }
        let Some(mut server) = measured.server.clone() else {
            let nothing = || match stop.is_requested() {
                true => Failure::new(exit::INTERRUPTED, "interrupted before anything was measured"),
                false => {
                    let why = measured.problems.first().map_or("no attempt was made", String::as_str);
                    Failure::new(exit::INCONCLUSIVE, format!("nothing was measured: {why}"))
                }
            };
            return Err(measured.error.unwrap_or_else(nothing));
        };
        server.throwaway = throwaway;
        let command_line = self.command_line(seed);
        let result = result(largest, &swept, self.repeat, measured.samples, server, command_line);
        let result = Measurements {
            notes: [measured.problems, result.notes].concat(),
            ..result
        };
        let code = match stop.is_requested() {
            true => exit::INTERRUPTED,
            false => exit::HELD,
        };
        Ok(output::write_sweep(&self.output, &result, code))
    }

    fn swept(&self) -> Result<Swept, Failure> {
        let usage = |message: &str| Failure::new(exit::USAGE, message);
        let (group, sessions) = match &self.sessions {
            None => (String::new(), None),
            Some(text) => {
                let (group, sizes) = match text.split_once('=') {
                    Some((group, sizes)) => (format!("{group}="), sizes),
                    None => (String::new(), text.as_str()),
                };
                let sizes: Sizes = sizes.parse().map_err(|e: String| usage(&format!("--sessions: {e}")))?;
                (group, Some(sizes))
            }
        };
        let fixed = |sizes: &Option<Sizes>| sizes.as_ref().and_then(Sizes::single);
        let (of, sizes, fixed) = match (&self.pool, &sessions) {
            (Some(pool), _) if pool.single().is_none() && (sessions.is_none() || fixed(&sessions).is_some()) => {
                ("pool", pool, fixed(&sessions))
            }
            (_, Some(of_group))
                if of_group.single().is_none() && (self.pool.is_none() || fixed(&self.pool).is_some()) =>
            {
                ("sessions", of_group, fixed(&self.pool))
            }
            _ => {
                return Err(usage(
                    "a sweep needs several sizes of one thing: --pool 5..100, or --sessions 5..100, or a list like 5,10,20",
                ));
            }
        };
        Ok(Swept {
            of,
            group,
            sizes: sizes.points(self.points),
            fixed,
        })
    }

    /// One round without gates and control: what is held at a gate has no throughput of its own.
    fn overrides(&self, swept: &Swept, size: u32, seed: u64) -> Overrides {
        let (pool, sessions) = match swept.of {
            "pool" => (Some(size), swept.fixed),
            _ => (swept.fixed, Some(size)),
        };
        Overrides {
            bug: self.bug.clone(),
            sessions: sessions.map(|n| format!("{}{n}", swept.group)).into_iter().collect(),
            rounds: Some(1),
            gate: Some(Gate::None),
            pool,
            seed: Some(seed),
            no_control: true,
            no_watch: false,
        }
    }

    async fn enter(&self, plan: &Plan, stop: &Stop) -> Result<Place, Failure> {
        let target = match plan.system {
            Some(_) => self.place.flagged_target()?,
            None => self.place.target()?,
        };
        Ok(Place::of(plan, target, &self.place.server_options(), stop).await?)
    }

    async fn measure(
        &self,
        plans: &[Plan],
        swept: &Swept,
        place: &Place,
        stop: &Stop,
        progress: &Progress,
    ) -> Measured {
        let mut measured = Measured {
            samples: vec![Vec::new(); plans.len()],
            ..Measured::default()
        };
        let order = sweep::order(plans.len(), self.repeat);
        for (n, at) in order.iter().enumerate() {
            if stop.is_requested() {
                measured
                    .problems
                    .push(format!("interrupted after {n} of {} runs", order.len()));
                break;
            }
            let size = swept.sizes[*at];
            progress.show(&format!("{} {size}, run {} of {}", swept.of, n + 1, order.len()));
            match contend::run(&plans[*at], &place.target, stop, &mut |_| {}).await {
                Ok((race, server)) => match race.sample() {
                    Some(sample) => {
                        measured.samples[*at].push(sample);
                        measured.server = Some(server);
                    }
                    None if stop.is_requested() => {}
                    None => {
                        let why = race.cut_short.as_deref().unwrap_or("no attempt was made");
                        measured.problems.push(format!("a run of {size} is left out: {why}"));
                    }
                },
                Err(_) if stop.is_requested() => {}
                Err(error) => {
                    measured
                        .problems
                        .push(format!("{} {size} could not be run: {error}", swept.of));
                    measured.error.get_or_insert(error.into());
                }
            }
        }
        measured
    }

    /// The same sweep again; without the connection string, which may hold a password.
    fn command_line(&self, seed: u64) -> String {
        let mut words = vec!["db-race".to_string(), "sweep".into(), self.scenario.clone()];
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value]);
            }
        };
        flag("pool", self.pool.as_ref().map(written));
        flag("sessions", self.sessions.clone());
        flag("points", Some(self.points.to_string()));
        flag("repeat", Some(self.repeat.to_string()));
        flag("bug", self.bug.clone());
        flag("seed", Some(seed.to_string()));
        words.extend(self.place.command_line());
        words.iter().map(|w| shell_word(w)).collect::<Vec<_>>().join(" ")
    }
}

fn written(sizes: &Sizes) -> String {
    match sizes {
        Sizes::Range(from, to) => format!("{from}..{to}"),
        Sizes::List(sizes) => sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

fn result(
    plan: &Plan,
    swept: &Swept,
    repeats: u32,
    samples: Vec<Vec<Sample>>,
    server: ServerFacts,
    reproduce: String,
) -> Measurements {
    let measured = swept.sizes.iter().zip(&samples).filter(|(_, s)| !s.is_empty());
    let points: Vec<_> = measured.map(|(size, samples)| sweep::point(*size, samples)).collect();
    Measurements {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        scenario: plan.name.clone(),
        title: plan.title.clone(),
        of: swept.of,
        repeats,
        knee: sweep::knee(&points, swept.of),
        notes: sweep::doubts(&points, &samples.concat()),
        points,
        server,
        reproduce,
    }
}
