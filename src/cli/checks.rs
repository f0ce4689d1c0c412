//! Which checks are run, where and how: the flags of all commands that run checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::{self, Failure};
use super::output::shell_word;
use crate::postgres::Target;
use crate::source::Source;
use crate::verify::{self, Check, Named, Options, Selection};

/// Of a report that people read; more is a job for SQL.
const SAMPLE_MAX: u64 = 10_000;

#[derive(Args, Debug)]
pub(super) struct Checks {
    /// Check files, folders of them, or bundled names (`db-race list`)
    #[arg(required = true)]
    pub(super) checks: Vec<String>,
    /// Only checks whose id fits; `*` stands for anything; may be repeated
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// No check whose id fits
    #[arg(long, value_name = "ID")]
    skip: Vec<String>,
    /// Only checks with this tag; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// No check with this tag
    #[arg(long, value_name = "TAG")]
    exclude_tag: Vec<String>,
    /// Set a parameter that checks read with current_setting('race.NAME'); may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = param)]
    param: Vec<(String, String)>,
    /// Checks run at the same time on each database, each on a connection of its own
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// After this a check is cancelled, and counts as not decided; a check's own `timeout` wins
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// Violating rows that are shown of each check [default: as the check says, or 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=SAMPLE_MAX))]
    sample: Option<u64>,
    /// Give a snapshot up after this, so that vacuum gets on; what is not decided by then counts as not decided
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    max_snapshot_age: Duration,
    /// Wait for a snapshot that some serial order of the SERIALIZABLE transactions could show; not on a standby
    #[arg(long)]
    deferrable: bool,
    /// Run checks as a role that could write files or run programs on the server, too
    #[arg(long, env = "DB_RACE_ALLOW_SUPERUSER", value_parser = clap::builder::FalseyValueParser::new())]
    allow_superuser: bool,
    /// A file of databases, a connection string or a service a line, looked at side by side
    #[arg(long, value_name = "FILE")]
    databases: Option<PathBuf>,
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected a length of time like 500ms, 30s or 2m".into()),
    }
}

fn param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("expected like hold_ttl='15 minutes'".into()),
    }
}

impl Checks {
    /// The checks to run, selected.
    pub(super) fn find(&self) -> Result<Vec<Check>, Failure> {
        let mut checks = Vec::new();
        for name in &self.checks {
            checks.extend(verify::find(name, Path::new(""))?);
        }
        let selection = Selection {
            only: self.only.clone(),
            skip: self.skip.clone(),
            tags: self.tag.clone(),
            exclude_tags: self.exclude_tag.clone(),
        };
        let usage = |error| Failure::new(exit::USAGE, error);
        let checks = selection.of(checks).map_err(usage)?;
        verify::known_params(&checks, &self.params()).map_err(usage)?;
        Ok(checks)
    }

    fn params(&self) -> BTreeMap<String, String> {
        self.param.iter().cloned().collect()
    }

    pub(super) fn options(&self) -> Options {
        Options {
            jobs: usize::from(self.jobs),
            timeout: self.timeout,
            sample: self.sample.and_then(|n| usize::try_from(n).ok()),
            snapshot_age_max: self.max_snapshot_age,
            deferrable: self.deferrable,
            params: self.params(),
            allow_superuser: self.allow_superuser,
            ..Options::default()
        }
    }

    /// The databases of `--databases`.
    pub(super) fn listed(&self) -> Result<Vec<Named>, Failure> {
        match &self.databases {
            Some(path) => listed(&Source::read(path)?),
            None => Ok(Vec::new()),
        }
    }

    /// The words that say the same again, where and as whom left out.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.checks.iter().map(|w| shell_word(w)).collect();
        let mut flag = |name: &str, value: &str| words.push(format!("--{name} {}", shell_word(value)));
        let several = [
            ("only", &self.only),
            ("skip", &self.skip),
            ("tag", &self.tag),
            ("exclude-tag", &self.exclude_tag),
        ];
        for (name, values) in several {
            values.iter().for_each(|value| flag(name, value));
        }
        for (name, value) in &self.param {
            flag("param", &format!("{name}={value}"));
        }
        if self.timeout != Options::default().timeout {
            flag(
                "timeout",
                &humantime::format_duration(self.timeout).to_string().replace(' ', ""),
            );
        }
        if let Some(databases) = &self.databases {
            flag("databases", &databases.display().to_string());
        }
        for (name, is_set) in [
            ("deferrable", self.deferrable),
            ("allow-superuser", self.allow_superuser),
        ] {
            if is_set {
                words.push(format!("--{name}"));
            }
        }
        words
    }
}

/// Reads a file of databases: a connection string or the name of a service a line; `#` begins a comment.
fn listed(source: &Source) -> Result<Vec<Named>, Failure> {
    let mut found = Vec::new();
    for (i, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_service = !line.contains('=') && !line.contains("://");
        let target = match is_service {
            true => Target::parse(&format!("service={line}")),
            false => Target::parse(line),
        };
        let target =
            target.map_err(|error| Failure::new(exit::USAGE, format!("{}:{}: {error}", source.name, i + 1)))?;
        let name = if is_service { line.to_string() } else { target.address() };
        found.push(Named { name, target });
    }
    match found.is_empty() {
        true => Err(Failure::new(
            exit::USAGE,
            format!("{}: there are no databases in it", source.name),
        )),
        false => Ok(found),
    }
}
