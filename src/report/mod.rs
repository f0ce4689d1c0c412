//! The result model, one for all commands, and a writer for each form.
//!
//! A writer is a pure function of a report. The JSON form of [`Report`] is a stable interface: its `schema` names the version,
//! and `docs/report.schema.json` describes it. What the others have in common is in `case`: a report as a list of checks and
//! rules, red or green. **All forms are green when, and only when, the exit code is 0.**

mod case;
mod escape;
mod github;
mod junit;
mod latency;
mod markdown;
mod model;
mod paths;
mod prometheus;
mod sample;
mod sarif;
mod tap;
mod terminal;

pub use github::write as write_annotations;
pub use junit::write as write_junit;
pub use latency::Times;
pub use markdown::write as write_markdown;
pub use model::*;
pub use paths::Paths;
pub use prometheus::write as write_prometheus;
pub use sarif::write as write_sarif;
pub use tap::write as write_tap;
pub use terminal::{Style, write as write_terminal, write_history, write_story, write_sweep};

use std::io::{self, Write};

/// Writes the whole report as one JSON document.
///
/// # Errors
/// When the writer fails.
pub fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests;
