//! `db-race check show`

use std::path::Path;

use clap::Args;

use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::verify::{self, Check};

#[derive(Args, Debug)]
pub(super) struct Show {
    /// A check file, a folder, a map file or a bundled name
    check: String,
}

impl Show {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let checks = verify::find(&self.check, Path::new(""))?;
        let shown: Vec<String> = checks.iter().map(shown).collect();
        output::print(&shown.join("\n\n"))?;
        Ok(exit::HELD)
    }
}

/// The parameters, and the statement with its map, as psql takes them.
fn shown(check: &Check) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        text.push_str(&format!("set race.{name} = '{}';\n", value.replace('\'', "''")));
    };
    for (name, value) in &check.params {
        set(name, value);
    }
    if check.chunk.is_some() {
        // all of it
        set("chunk_from", &i64::MIN.to_string());
        set("chunk_to", &i64::MAX.to_string());
    }
    let (statement, _) = check.statement();
    text + &statement + ";"
}
