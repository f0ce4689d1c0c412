//! The result model, one for all commands, and a writer for each form.
//!
//! The JSON form of [`Report`] is a stable interface: its `schema` names the version.

mod latency;
mod model;
mod terminal;

pub use latency::Times;
pub use model::*;
pub use terminal::{Style, write as write_terminal, write_history, write_sweep};

use std::io::{self, Write};

/// Writes the whole report as one JSON document.
///
/// # Errors
/// When the writer fails.
pub fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
