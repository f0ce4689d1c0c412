//! TAP 14. <https://testanything.org/tap-version-14-specification.html>

use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use super::case::{Case, cases};
use crate::verdict::State;

/// Writes the report as TAP, with a YAML block behind each case that is not `ok`, and behind what is pending.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let cases = cases(report);
    writeln!(out, "TAP version 14\n1..{}", cases.len())?;
    for (i, case) in cases.iter().enumerate() {
        let ok = if case.is_red() { "not ok" } else { "ok" };
        let skip = match case.state {
            State::Skipped => format!(" # SKIP {}", case.measured.trim_start_matches("skipped: ")),
            State::NoData if !case.is_red() => format!(" # SKIP {}", case.measured),
            _ => String::new(),
        };
        let name = match report.databases.len() {
            0 | 1 => case.heading(),
            _ => format!("{} on {}", case.heading(), case.suite),
        };
        writeln!(out, "{ok} {} - {}{skip}", i + 1, escaped(&name))?;
        if case.is_shown() {
            diagnostic(case, out)?;
        }
    }
    Ok(())
}

/// `#` begins a directive.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

fn diagnostic(case: &Case<'_>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "  ---")?;
    let severity = match case.state {
        State::NoData => "could not decide",
        State::Pending => "pending",
        _ => case.severity(),
    };
    writeln!(out, "  message: {}", yaml(&case.measured))?;
    writeln!(out, "  severity: {}", yaml(&severity))?;
    if let Some(place) = case.place {
        writeln!(out, "  at:\n    file: {}", yaml(&place.file))?;
        if let Some(line) = place.line {
            writeln!(out, "    line: {line}")?;
        }
    }
    if let Some(check) = case.check {
        for (name, value) in [("remedy", &check.remedy), ("owner", &check.owner)] {
            if let Some(value) = value {
                writeln!(out, "  {name}: {}", yaml(value))?;
            }
        }
        if !check.findings.is_empty() {
            writeln!(out, "  findings:")?;
        }
        for finding in &check.findings {
            writeln!(out, "    - pending: {}\n      row:", finding.pending)?;
            for (column, value) in &finding.row {
                writeln!(out, "        - [{}, {}]", yaml(column), yaml(value))?;
            }
        }
    } else {
        writeln!(out, "  details: {}", yaml(&case.details))?;
    }
    writeln!(out, "  ...")
}

/// YAML takes JSON's scalars, less some characters that must be escaped there.
fn yaml(value: &impl Serialize) -> String {
    // text has no way to fail
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_begins_a_directive_and_no_value_ends_the_block() {
        assert_eq!(escaped(r"a # TODO \ b"), r"a \# TODO \\ b");
        assert_eq!(yaml(&"\n  ...\nnot ok"), r#""\n  ...\nnot ok""#);
        assert_eq!(yaml(&"\u{85}\u{7f}🏨"), r#""\u0085\u007f🏨""#);
        assert_eq!(yaml(&None::<String>), "null");
    }
}
