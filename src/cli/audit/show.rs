//! `db-race audit show`

use std::io::Write;

use clap::Args;

use super::MemoryPlace;
use super::history::Form;
use super::retire::unknown;
use crate::audit::store::Store;
use crate::audit::{Known, Moment, Shown, show};
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::report;
use crate::source::quoted;

/// Findings that an error names.
const NAMED_MAX: usize = 5;

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The id of a check
    check: String,
    /// What identifies the finding, as the report shows it: hold_id=17; some of the key's columns, or none, for several findings
    #[arg(value_name = "COLUMN=VALUE", value_parser = column)]
    key: Vec<(String, String)>,
    /// Only on this database, as the report names it
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    #[command(flatten)]
    memory: MemoryPlace,
    /// The form on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = output::Color::Auto)]
    color: output::Color,
}

fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_string(), value.to_string())),
        _ => Err("expected a column of the key with its value, like hold_id=17".into()),
    }
}

impl Show {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let store = Store::read(&self.memory.location()?).await?;
        let mut stories = store.stories(&self.check).await?;
        if stories.is_empty() {
            return Err(self.no_findings(&store.check_ids().await?, store.place()));
        }
        let all: Vec<Known> = stories.iter().map(|story| story.known.clone()).collect();
        stories.retain(|story| self.is_meant(&story.known));
        if stories.is_empty() {
            return Err(self.not_found(&all));
        }
        let shown = show(store.place(), stories, Moment::now());
        self.write(&shown)
    }

    fn is_meant(&self, known: &Known) -> bool {
        let is = |(column, value): &(String, String)| match known.key.get(column) {
            Some(Some(text)) => text == value,
            // as reports show it
            Some(None) => value == "NULL",
            None => false,
        };
        self.key.iter().all(is)
            && self
                .database
                .as_ref()
                .is_none_or(|name| known.subject.database == *name)
    }

    fn no_findings(&self, known: &[String], place: &str) -> Failure {
        match known.contains(&self.check) {
            true => Failure::new(
                exit::USAGE,
                format!("{} has had no finding, as far as the memory {place} knows", self.check),
            ),
            false => unknown(&self.check, known, place),
        }
    }

    fn not_found(&self, all: &[Known]) -> Failure {
        let check = &self.check;
        let mut columns: Vec<&String> = all.iter().flat_map(|known| known.key.keys()).collect();
        columns.sort();
        columns.dedup();
        if let Some((column, _)) = self.key.iter().find(|(column, _)| !columns.contains(&column)) {
            let expected = match columns.is_empty() {
                true => "it has no key".to_string(),
                false => format!("expected {}", quoted(&columns)),
            };
            return Failure::new(
                exit::USAGE,
                format!("`{column}` is no key column of {check}: {expected}"),
            );
        }
        let mut named: Vec<String> = all.iter().take(NAMED_MAX).map(name).collect();
        if all.len() > NAMED_MAX {
            named.push(format!("and {} more", all.len() - NAMED_MAX));
        }
        Failure::new(
            exit::USAGE,
            format!("{check} has had no such finding; there are {}", named.join("; ")),
        )
    }

    fn write(&self, shown: &Shown) -> Result<u8, Failure> {
        let mut bytes = Vec::new();
        match self.format {
            Form::Text => report::write_story(shown, output::style(self.color), &mut bytes)?,
            Form::Json => {
                serde_json::to_writer_pretty(&mut bytes, shown).map_err(std::io::Error::from)?;
                bytes.push(b'\n');
            }
        }
        output::quietly(std::io::stdout().lock().write_all(&bytes))?;
        Ok(exit::HELD)
    }
}

/// As it can be given.
fn name(known: &Known) -> String {
    // a value may hold anything
    let plain = |value: &str| value.chars().flat_map(char::escape_debug).collect::<String>();
    let pair = |(column, value): (&String, &Option<String>)| {
        format!("{column}={}", value.as_deref().map_or("NULL".into(), plain))
    };
    let key: Vec<String> = known.key.iter().map(pair).collect();
    let key = if key.is_empty() {
        "one without a key".into()
    } else {
        key.join(" ")
    };
    format!("{key} on {}", known.subject.database)
}
