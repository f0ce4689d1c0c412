//! GitHub Actions: whether this is one, its step summary, and commands that nobody else may give.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use super::output::{note, paths};
use crate::report::{self, Report};

/// Whether a workflow runs this, and nobody has switched the annotations off with `DB_RACE_NO_GITHUB=1`.
pub(super) fn is_here() -> bool {
    let is_off = std::env::var_os("DB_RACE_NO_GITHUB").is_some_and(|off| !off.is_empty());
    !is_off && std::env::var_os("GITHUB_ACTIONS").is_some_and(|on| on == "true")
}

/// Gives the annotations to `out`, and the Markdown to the step summary where there is one; whether both could be written.
pub(super) fn write(report: &Report, code: u8, out: &mut Vec<u8>) -> bool {
    let mut result = report::write_annotations(report, &paths(), out);
    let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
    let Some(path) = summary.map(PathBuf::from) else {
        return result.is_ok();
    };
    if result.is_ok() {
        result = append(&path, report, code);
    }
    if let Err(error) = &result {
        let path = path.display();
        note(&format!(
            "error: cannot write the step summary to {path} (GITHUB_STEP_SUMMARY): {error}"
        ));
    }
    result.is_ok()
}

/// The steps before have written there, too.
fn append(path: &PathBuf, report: &Report, code: u8) -> io::Result<()> {
    let mut page = Vec::new();
    report::write_markdown(report, code, &mut page)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(&page)
}

/// Text in which no line is a command, whatever values it shows: the runner takes none until it hears a word that nobody
/// can guess.
pub(super) fn guarded(out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let word = format!("{:032x}", rand::random::<u128>());
    writeln!(out, "::stop-commands::{word}")?;
    text(out)?;
    writeln!(out, "::{word}::")
}
