//! `db-race audit retire`

use std::collections::BTreeMap;

use clap::Args;

use super::MemoryPlace;
use crate::audit::store::Store;
use crate::audit::{Kept, Moment, Subject};
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::source::{like, nearest, quoted};

#[derive(Args, Debug)]
pub(super) struct Retire {
    /// The id of a check that nobody runs any more, or a pattern with `*`
    #[arg(required = true, value_name = "CHECK")]
    checks: Vec<String>,
    /// Only on this database, as the report names it
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Why; it is remembered
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    memory: MemoryPlace,
}

impl Retire {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let location = self.memory.location()?;
        // it is not made for this
        drop(Store::read(&location).await?);
        let mut store = Store::open(&location).await?;
        let known = store.check_ids().await?;
        for pattern in &self.checks {
            if !known.iter().any(|id| like(pattern, id)) {
                return Err(unknown(pattern, &known, store.place()));
            }
        }
        let mut open = store.open_findings().await?;
        open.retain(|finding| self.checks.iter().any(|pattern| like(pattern, &finding.subject.check)));
        let mut elsewhere: Vec<String> = open.iter().map(|finding| finding.subject.database.clone()).collect();
        elsewhere.dedup();
        if let Some(database) = &self.database {
            open.retain(|finding| finding.subject.database == *database);
        }
        if open.is_empty() {
            let what = quoted(&self.checks);
            return match (&self.database, elsewhere.is_empty()) {
                (Some(database), false) => Err(Failure::new(
                    exit::USAGE,
                    format!(
                        "{what} has nothing open on {database}, but on {}: give one of these as --database",
                        quoted(&elsewhere)
                    ),
                )),
                _ => {
                    output::print(&format!("nothing to retire: {what} has no open findings"))?;
                    Ok(exit::HELD)
                }
            };
        }
        let mut counts: BTreeMap<Subject, usize> = BTreeMap::new();
        for finding in &open {
            *counts.entry(finding.subject.clone()).or_default() += 1;
        }
        let now = Moment::now();
        let retired = open
            .into_iter()
            .map(|finding| Kept::retired(finding, now, self.reason.clone()));
        store.keep(&retired.collect::<Vec<_>>()).await?;
        for (Subject { database, check }, n) in counts {
            let findings = if n == 1 { "finding" } else { "findings" };
            output::print(&format!("retired {n} {findings} of {check} on {database}"))?;
        }
        Ok(exit::HELD)
    }
}

/// A check that the memory has never met.
pub(super) fn unknown(id: &str, known: &[String], place: &str) -> Failure {
    let near = nearest(id, known.iter().map(String::as_str));
    let near = near.unwrap_or_else(|| "`db-race audit history` shows those that it knows".into());
    Failure::new(exit::USAGE, format!("the memory {place} knows no check `{id}`: {near}"))
}
