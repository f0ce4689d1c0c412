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

fn quietly(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn style(color: Color) -> Style {
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
    let _ = writeln!(io::stderr().lock(), "{}", without_passwords(text));
}

/// A message with no password in it, should somebody have put a connection string where a name belongs: those of URIs
/// (`://user:PASSWORD@`) and of `password=PASSWORD`.
pub(super) fn without_passwords(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let uri = rest.find("://").map(|at| at + 3);
        let word = rest.find("password=").map(|at| at + 9);
        let Some(at) = [uri, word].into_iter().flatten().min() else {
            break;
        };
        let (before, behind) = rest.split_at(at);
        clean.push_str(before);
        let is_uri = uri == Some(at);
        let end = match behind.strip_prefix('\'') {
            Some(quoted) if !is_uri => quoted.find('\'').map_or(behind.len(), |end| end + 2),
            _ => behind.find(char::is_whitespace).unwrap_or(behind.len()),
        };
        let secret = match is_uri {
            false => Some((0, end)),
            // an @ that belongs to the password should have been written %40, but may not have been
            true => behind[..end]
                .rfind('@')
                .and_then(|to| Some((behind[..to].find(':')? + 1, to))),
        };
        match secret {
            Some((from, to)) => {
                clean.push_str(&behind[..from]);
                clean.push_str("...");
                rest = &behind[to..];
            }
            None => rest = behind,
        }
    }
    clean + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_taken_out_of_messages() {
        for (text, expected) in [
            ("no such file: a.toml", "no such file: a.toml"),
            (
                "cannot read postgresql://u:p@h/d: no",
                "cannot read postgresql://u:...@h/d: no",
            ),
            (
                "postgres://u:p@ss@h and postgres://v:q@i",
                "postgres://u:...@h and postgres://v:...@i",
            ),
            ("see https://example.com/a:b", "see https://example.com/a:b"),
            ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
            ("'host=h password=p user=u'", "'host=h password=... user=u'"),
            ("password='a b' user=u", "password=... user=u"),
            ("password='a b", "password=..."),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }
}
