//! Annotations for GitHub Actions: lines on stdout that its runner takes for commands.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::io::{self, Write};

use super::case::{Case, cases};
use super::escape::cut;
use super::{Paths, Report};
use crate::verdict::{State, Undecided};

/// Characters of a message: GitHub shows 4 KiB.
const MESSAGE_MAX: usize = 2_000;

/// Writes an annotation for each check and rule that is broken, undecided or pending, the worst first: GitHub shows ten of
/// a kind.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, paths: &Paths, out: &mut impl Write) -> io::Result<()> {
    let mut cases = cases(report);
    cases.retain(Case::is_shown);
    cases.sort_by_key(|c| level(c).0);
    for case in &cases {
        let mut properties = Vec::new();
        // what is inside the binary is no file of the repository
        if let Some(place) = case.place.filter(|p| !p.is_bundled) {
            properties.push(format!("file={}", property(&paths.shown(place.file))));
            properties.extend(place.line.map(|line| format!("line={line}")));
        }
        let on = match report.databases.len() {
            0 | 1 => String::new(),
            _ => format!(" on {}", case.suite),
        };
        let title = format!("{}{on}: {}", case.name, case.measured);
        properties.push(format!("title={}", property(&cut(&title, 250))));
        let text = message(&cut(&case.details, MESSAGE_MAX));
        writeln!(out, "::{} {}::{text}", level(case).1, properties.join(","))?;
    }
    Ok(())
}

fn level(case: &Case<'_>) -> (u8, &'static str) {
    match (case.state, case.warning) {
        (State::Broken, false) => (0, "error"),
        (State::NoData, _) if matches!(case.doubt, Undecided::Inconclusive | Undecided::Fails) => (1, "error"),
        (State::NoData, _) if case.doubt == Undecided::Warns => (2, "warning"),
        (State::Broken, true) => (2, "warning"),
        _ => (3, "notice"),
    }
}

/// As `escapeData` of GitHub's toolkit has it.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As `escapeProperty` of GitHub's toolkit has it.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_a_command_or_begins_one() {
        assert_eq!(message("50%\r\n::set-env::"), "50%25%0D%0A::set-env::");
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
