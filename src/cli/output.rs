//! stdout, stderr and the terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use super::Output;
use crate::report::{self, Report, Style};
use crate::sweep::Sweep;

/// The form of the report on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One document with everything in it
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Writes the report; a reader that has gone away is no error.
pub(super) fn write(output: &Output, report: &Report) -> io::Result<()> {
    let mut bytes = Vec::new();
    match output.format {
        Format::Json => report::write_json(report, &mut bytes)?,
        Format::Text => report::write_terminal(report, style(output.color), &mut bytes)?,
    }
    quietly(io::stdout().lock().write_all(&bytes))
}

/// Writes what a sweep has measured.
pub(super) fn write_sweep(output: &Output, sweep: &Sweep) -> io::Result<()> {
    let mut bytes = Vec::new();
    match output.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut bytes, sweep)?;
            bytes.push(b'\n');
        }
        Format::Text => report::write_sweep(sweep, style(output.color), &mut bytes)?,
    }
    quietly(io::stdout().lock().write_all(&bytes))
}

/// Writes lines to stdout; a reader that has gone away is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quietly(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// A reader that has gone away is no error.
pub(super) fn quietly(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// How stdout is written to.
pub(super) fn style(color: Color) -> Style {
    let terminal = io::stdout().is_terminal();
    let color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
    };
    let width = terminal
        .then(terminal_size::terminal_size)
        .flatten()
        .map(|(width, _)| width.0);
    Style { width, color }
}

/// A line on stderr.
pub(super) fn note(text: &str) {
    // nobody is left to tell when stderr is gone
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Now, in RFC 3339.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A word of a command line, quoted where a shell needs it.
pub(super) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
