//! Several databases side by side.

use futures_util::{StreamExt, stream};

use super::{Looked, Progress, VerifyError, run_watched, undecided};
use crate::postgres::Target;
use crate::stop::Stop;
use crate::verify::{Check, CheckResult, DatabaseResult, Options};

/// Databases that are looked at at the same time, each by its own workers.
const AT_ONCE: usize = 8;

/// A database, and what the user calls it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its service, or its address.
    pub name: String,
    /// How it is reached.
    pub target: Target,
}

impl From<Target> for Named {
    fn from(target: Target) -> Self {
        Named {
            name: target.address(),
            target,
        }
    }
}

/// What was seen of several databases.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The databases, in their order.
    pub databases: Vec<DatabaseResult>,
    /// The results of all, database by database, in the checks' order.
    pub checks: Vec<CheckResult>,
}

/// Runs the checks on each of the databases; `on` hears how far each one is.
///
/// One that can't be looked at has checks that could not be decided; the others are judged all the same.
///
/// # Errors
/// The first one's [`VerifyError`] when none could be looked at.
pub async fn run_all(
    databases: &[Named],
    checks: &[Check],
    options: &Options,
    stop: &Stop,
    on: &(dyn Fn(Progress) + Sync),
) -> Result<Found, VerifyError> {
    let looks = databases.iter().enumerate().map(|(nth, database)| async move {
        let looked = run_watched(&database.target, nth, checks, options, stop, on).await;
        (nth, looked)
    });
    let looked: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut found = Found::default();
    let mut first_error = None;
    let mut is_any = false;
    for ((nth, looked), named) in looked.into_iter().zip(databases) {
        match looked {
            Ok(Looked { mut database, checks }) => {
                is_any = true;
                database.name.clone_from(&named.name);
                found.databases.push(database);
                found.checks.extend(checks);
            }
            Err(error) => {
                let why = error.to_string();
                found.checks.extend(checks.iter().map(|check| CheckResult {
                    database: nth,
                    ..undecided(check, why.clone())
                }));
                found.databases.push(DatabaseResult {
                    address: named.target.address(),
                    name: named.name.clone(),
                    problem: Some(why),
                    ..DatabaseResult::default()
                });
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if !is_any => Err(error),
        _ => Ok(found),
    }
}
