//! `db-race check test`
//!
//! Each folder's schema is installed once, in a database from which those of the fixtures are made.

use std::path::Path;

use clap::Args;
use tokio_postgres::Client;

use crate::bundled::{Folder, Shelf};
use crate::cli::exit::{self, Failure};
use crate::cli::{output, signals};
use crate::place::Place;
use crate::postgres::server::Options as ServerOptions;
use crate::postgres::{Target, explain};
use crate::source::{FileError, Source};
use crate::stop::Stop;
use crate::system::System;
use crate::verify::fixture::{self, Fixture};
use crate::verify::{self, Check, CheckResult, Decision, Options};

const TEMPLATE: &str = "db_race_template";
const DATABASE: &str = "db_race_fixture";

#[derive(Args, Debug)]
pub(super) struct Test {
    /// Check files, folders of them, or bundled names (`db-race list`)
    #[arg(required = true)]
    checks: Vec<String>,
    /// Directory of the PostgreSQL server's binaries
    #[arg(long, value_name = "DIR", env = "DB_RACE_PG_BIN")]
    pg_bin: Option<std::path::PathBuf>,
}

/// How a check did.
enum Tried {
    Right(usize),
    Wrong(Vec<String>),
    Skipped(String),
}

impl Test {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let stop = signals::listen(false);
        let mut checks = Vec::new();
        for name in &self.checks {
            checks.extend(verify::find(name, Path::new(""))?);
        }
        let place = Place::throwaway(&self.server_options(), &stop).await?;
        let tried = try_all(&place.target, &checks, &stop).await;
        if let Err(problem) = place.leave().await {
            output::note(&format!("warning: {problem}"));
        }
        let tried = tried?;
        let (mut lines, mut wrong, mut skipped) = (Vec::new(), 0, 0);
        for (check, tried) in checks.iter().zip(tried) {
            match tried {
                Tried::Right(n) => {
                    let s = if n == 1 { "" } else { "s" };
                    lines.push(format!("✓ {}  {n} fixture{s}, and the schema as it is", check.id));
                }
                Tried::Skipped(why) => {
                    skipped += 1;
                    lines.push(format!("- {}  skipped: {why}", check.id));
                }
                Tried::Wrong(why) => {
                    wrong += 1;
                    lines.extend(why.iter().map(|why| format!("✗ {}  {why}", check.id)));
                }
            }
        }
        let right = checks.len() - wrong - skipped;
        lines.push(format!(
            "{} checks: {right} right, {wrong} wrong, {skipped} skipped",
            checks.len()
        ));
        output::print(&lines.join("\n"))?;
        Ok(match (wrong, skipped) {
            _ if stop.is_requested() => exit::INTERRUPTED,
            (0, 0) => exit::HELD,
            (0, _) => exit::INCONCLUSIVE,
            _ => exit::VIOLATED,
        })
    }

    fn server_options(&self) -> ServerOptions {
        let settings = [
            ("max_prepared_transactions", "10"),
            ("wal_level", "logical"),
            ("max_replication_slots", "10"),
            ("track_commit_timestamp", "on"),
        ];
        ServerOptions {
            bin_dir: self.pg_bin.clone(),
            settings: settings
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .to_vec(),
            ..ServerOptions::default()
        }
    }
}

/// Why a fixture can't be tried.
enum Broken {
    /// Its own fault.
    Fixture(String),
    /// Nothing can be.
    Server(Failure),
}

async fn try_all(server: &Target, checks: &[Check], stop: &Stop) -> Result<Vec<Tried>, Failure> {
    let admin = server.connect("control").await?;
    let failed = |error: tokio_postgres::Error| Failure::new(exit::UNREACHABLE, explain(&error));
    let mut tried = Vec::new();
    let mut installed: Option<Folder> = None;
    for check in checks {
        if stop.is_requested() {
            tried.push(Tried::Skipped("interrupted".into()));
            continue;
        }
        let (folder, _) = fixture::folder_of(check);
        if installed.as_ref() != Some(&folder) {
            let again = format!("drop database if exists {TEMPLATE} with (force)");
            admin.batch_execute(&again).await.map_err(failed)?;
            admin
                .batch_execute(&format!("create database {TEMPLATE}"))
                .await
                .map_err(failed)?;
            install(&server.database(TEMPLATE), &folder).await?;
            installed = Some(folder);
        }
        tried.push(try_one(&admin, server, check, stop).await?);
    }
    Ok(tried)
}

/// The check on the schema as it is, and on each of its fixtures.
async fn try_one(admin: &Client, server: &Target, check: &Check, stop: &Stop) -> Result<Tried, Failure> {
    let mut wrong = Vec::new();
    let fixtures = fixture::fixtures_of(check)?;
    if !fixtures.iter().any(|f| !f.finds.is_empty()) {
        wrong.push("has no fixture in which it finds something: nobody knows whether it ever would".to_string());
    }
    let states = std::iter::once(None).chain(fixtures.iter().map(Some));
    let mut skipped = None;
    for fixture in states {
        let (name, whole) = match fixture {
            None => ("the schema as it is", fixture::complete(check.clone())),
            Some(fixture) => (&*fixture.source.name, fixture.apply(check)),
        };
        let why = match on(admin, server, fixture, &whole, stop).await {
            Ok(result) if result.decision == Decision::Skipped => {
                skipped = result.reason;
                None
            }
            Ok(result) => judge(fixture, &result),
            Err(Broken::Fixture(why)) => Some(why),
            Err(Broken::Server(failure)) => return Err(failure),
        };
        wrong.extend(why.map(|why| format!("{name}: {why}")));
    }
    Ok(match (wrong.is_empty(), skipped) {
        (false, _) => Tried::Wrong(wrong),
        (true, Some(why)) => Tried::Skipped(why),
        (true, None) => Tried::Right(fixtures.len()),
    })
}

fn judge(fixture: Option<&Fixture>, result: &CheckResult) -> Option<String> {
    match (fixture, result.decision) {
        (Some(fixture), Decision::Held) if !fixture.finds.is_empty() && result.count == 0 => {
            Some("it finds nothing in what it is there to find: it can never fail".into())
        }
        (Some(fixture), _) => fixture.judge(result),
        (None, Decision::CouldNotDecide) => Some(fixture::reason(result)),
        (None, _) => match result.count + result.pending {
            0 => None,
            n => Some(format!("it finds {n} rows in it")),
        },
    }
}

/// The folder's own schema, else the bundled system that is called as the folder is.
async fn install(target: &Target, folder: &Folder) -> Result<(), Failure> {
    let files = match fixture::schema_of(folder)? {
        Some(schema) => vec![schema],
        None => {
            let path = match folder {
                Folder::Disk(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
                Folder::Bundled(_, path) => path.into(),
            };
            let name = path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            match Shelf::Sql.folders().contains(&name) {
                true => System::find(&name, Path::new("/nonexistent"))?.files,
                false => Vec::new(),
            }
        }
    };
    let client = target.connect("fixture").await?;
    for file in &files {
        run(&client, file).await?;
    }
    Ok(())
}

async fn run(client: &Client, file: &Source) -> Result<(), FileError> {
    client.batch_execute(&file.text).await.map_err(|error| FileError::Read {
        path: file.name.to_string(),
        why: explain(&error),
    })
}

/// A check on a fixture: the session that made it stays as it is while the check runs.
async fn on(
    admin: &Client,
    server: &Target,
    fixture: Option<&Fixture>,
    check: &Check,
    stop: &Stop,
) -> Result<CheckResult, Broken> {
    let broken = |error: tokio_postgres::Error| Broken::Server(Failure::new(exit::UNREACHABLE, explain(&error)));
    let create = format!("create database {DATABASE} template {TEMPLATE}");
    admin.batch_execute(&create).await.map_err(broken)?;
    let target = server.database(DATABASE);
    let looked = look(&target, fixture, check, stop).await;
    clear(&target, admin).await.map_err(broken)?;
    looked
}

async fn look(target: &Target, fixture: Option<&Fixture>, check: &Check, stop: &Stop) -> Result<CheckResult, Broken> {
    let session = target
        .connect("fixture")
        .await
        .map_err(|error| Broken::Server(error.into()))?;
    if let Some(fixture) = fixture {
        let made = run(&session, &fixture.source).await;
        made.map_err(|error| Broken::Fixture(error.to_string()))?;
    }
    let options = Options {
        jobs: 1,
        keep_keys: true,
        ..Options::default()
    };
    let looked = verify::run(target, std::slice::from_ref(check), &options, stop).await;
    let mut looked = looked.map_err(|error| Broken::Server(error.into()))?;
    Ok(looked.checks.pop().unwrap_or_default())
}

/// Drops the fixture's database, and what it has made outside of it.
async fn clear(target: &Target, admin: &Client) -> Result<(), tokio_postgres::Error> {
    const SLOTS: &str = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active";
    const PREPARED: &str = "select gid from pg_prepared_xacts where database = current_database()";
    const ROLES: &str = "select format('drop role %I', rolname) from pg_roles where oid >= 16384";
    if let Ok(inside) = target.connect("control").await {
        for row in inside.query(PREPARED, &[]).await? {
            let gid: String = row.get(0);
            // the statement takes no parameter
            let rollback = format!("rollback prepared '{}'", gid.replace('\'', "''"));
            inside.batch_execute(&rollback).await?;
        }
        inside.query(SLOTS, &[]).await?;
    }
    admin
        .batch_execute(&format!("drop database {DATABASE} with (force)"))
        .await?;
    for row in admin.query(ROLES, &[]).await? {
        admin.batch_execute(row.get(0)).await?;
    }
    Ok(())
}
