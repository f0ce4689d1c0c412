//! stdout, stderr, the terminal, and the files of reports.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;

use super::destinations::{Format, Plan};
use super::exit::{self, Failure};
use super::save::save;
use super::{Output, github};
use crate::report::{self, Paths, Report, SCHEMA, Style};
use crate::sweep::Sweep;
use crate::verdict::{Judged, Terms, Verdict};

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

/// Runs a command whose reports are asked for. Where it fails before it has one, those that go to files say so: a report
/// of the last run must not be taken for one of this.
///
/// # Errors
/// The command's own, and [`exit::USAGE`] where the reports get in each other's way.
pub(super) async fn told(
    output: Output,
    command: &'static str,
    run: impl Future<Output = Result<u8, Failure>>,
) -> Result<u8, Failure> {
    let plan = Plan::of(&output, github::is_here())?;
    let (started, started_at) = (Instant::now(), now());
    let result = run.await;
    if let Err(failure) = &result {
        let report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            command,
            started_at,
            duration_ms: millis(started.elapsed()),
            verdict: Verdict {
                outcome: match failure.code {
                    exit::INTERRUPTED => Judged::Interrupted,
                    _ => Judged::Inconclusive,
                },
                cause: None,
                reasons: vec![failure.to_string()],
                rules: Vec::new(),
            },
            terms: Terms::default(),
            server: Default::default(),
            race: None,
            databases: Vec::new(),
            checks: Vec::new(),
            audit: None,
            notes: Vec::new(),
            reproduce: None,
        };
        write_files(&plan, &report, failure.code);
        if plan.github {
            let mut bytes = Vec::new();
            github::write(&report, failure.code, &mut bytes);
            let _ = io::stdout().lock().write_all(&bytes);
        }
    }
    result
}

/// Writes all reports, and gives the exit code: that of the run, unless it was a good one and some report could not be
/// written. A reader of stdout that has gone away is no error.
pub(super) fn write(output: &Output, report: &Report, code: u8) -> u8 {
    // it was made before the run, so it can be made now
    let Ok(plan) = Plan::of(output, github::is_here()) else {
        return exit::USAGE;
    };
    let mut is_complete = write_files(&plan, report, code);
    let mut stdout = Vec::new();
    let mut stderr = Vec::new();
    let style = style(output.color);
    let written = match plan.stdout {
        Format::Github => Ok(()),
        // values of strangers could begin a line with a command
        Format::Text if plan.github => github::guarded(&mut stdout, |out| report::write_terminal(report, style, out)),
        format => render(format, report, code, report.command, style, &mut stdout),
    };
    is_complete &= is_written(written, "stdout");
    if plan.text_on_stderr {
        is_complete &= is_written(report::write_terminal(report, Style::default(), &mut stderr), "stderr");
    }
    if plan.github {
        // the runner reads both
        let out = match plan.stdout {
            Format::Text | Format::Github => &mut stdout,
            _ => &mut stderr,
        };
        is_complete &= github::write(report, code, out);
    }
    let _ = io::stderr().lock().write_all(&stderr);
    is_complete &= is_written(quietly(io::stdout().lock().write_all(&stdout)), "stdout");
    ended(is_complete, code)
}

/// Writes the files alone, for who has nothing to say on stdout; gives the exit code as [`write()`] does.
pub(super) fn write_silently(output: &Output, report: &Report, code: u8) -> u8 {
    let Ok(plan) = Plan::of(output, false) else {
        return exit::USAGE;
    };
    ended(write_files(&plan, report, code), code)
}

/// The exit code: that of the run, unless it was a good one and not all reports could be written.
fn ended(is_complete: bool, code: u8) -> u8 {
    match (is_complete, code) {
        (false, exit::HELD | exit::WARNED) => exit::CANNOT_WRITE,
        _ => code,
    }
}

/// Writes the files, each for itself; whether all could be written.
fn write_files(plan: &Plan, report: &Report, code: u8) -> bool {
    let mut is_complete = true;
    for (format, path) in &plan.files {
        let run = path
            .file_stem()
            .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let mut bytes = Vec::new();
        let written = render(*format, report, code, &run, Style::default(), &mut bytes);
        let written = written.and_then(|()| save(path, &bytes));
        is_complete &= is_written(written, &path.display().to_string());
    }
    is_complete
}

fn is_written(result: io::Result<()>, place: &str) -> bool {
    if let Err(error) = &result {
        note(&format!("error: cannot write the report to {place}: {error}"));
    }
    result.is_ok()
}

fn render(format: Format, report: &Report, code: u8, run: &str, style: Style, out: &mut Vec<u8>) -> io::Result<()> {
    match format {
        Format::Text => report::write_terminal(report, style, out),
        Format::Json => report::write_json(report, out),
        Format::Junit => report::write_junit(report, out),
        Format::Tap => report::write_tap(report, out),
        Format::Sarif => report::write_sarif(report, code, &paths(), out),
        Format::Markdown => report::write_markdown(report, code, out),
        Format::Github => report::write_annotations(report, &paths(), out),
        Format::Prometheus => report::write_prometheus(report, code, run, out),
    }
}

/// Paths as the repository has them, where GitHub says which one it is.
pub(super) fn paths() -> Paths {
    Paths {
        here: std::env::current_dir().unwrap_or_default(),
        root: std::env::var_os("GITHUB_WORKSPACE")
            .filter(|p| !p.is_empty())
            .map(PathBuf::from),
    }
}

/// What a sweep can be reported as.
///
/// # Errors
/// [`exit::USAGE`] for all but text and JSON: a sweep measures and judges nothing.
pub(super) fn for_sweep(output: &Output) -> Result<(), Failure> {
    let plan = Plan::of(output, false)?;
    let mut formats = plan.files.iter().map(|(format, _)| *format).chain([plan.stdout]);
    match formats
        .find(|f| !matches!(f, Format::Text | Format::Json))
        .or(plan.github.then_some(Format::Github))
    {
        None => Ok(()),
        Some(format) => Err(Failure::new(
            exit::USAGE,
            format!(
                "a sweep has no report of the kind `{}`: it judges nothing; there are text and json",
                format.name()
            ),
        )),
    }
}

/// Writes what a sweep has measured, and gives the exit code as [`write()`] does.
pub(super) fn write_sweep(output: &Output, sweep: &Sweep, code: u8) -> u8 {
    let Ok(plan) = Plan::of(output, false) else {
        return exit::USAGE;
    };
    let render = |format, style, out: &mut Vec<u8>| match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, sweep)?;
            writeln!(out)
        }
        _ => report::write_sweep(sweep, style, out),
    };
    let mut is_complete = true;
    for (format, path) in &plan.files {
        let mut bytes = Vec::new();
        let written = render(*format, Style::default(), &mut bytes).and_then(|()| save(path, &bytes));
        is_complete &= is_written(written, &path.display().to_string());
    }
    let mut bytes = Vec::new();
    let written = render(plan.stdout, style(output.color), &mut bytes);
    let written = written.and_then(|()| quietly(io::stdout().lock().write_all(&bytes)));
    is_complete &= is_written(written, "stdout");
    ended(is_complete, code)
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
