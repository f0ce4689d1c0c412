//! Markdown, for a comment on a pull request and for GitHub's step summary: the verdict, what is broken, and the rows to unfold.

use std::io::{self, Write};

use super::case::{Case, cases};
use super::escape::{SHOWN_MAX, cut, value, visible};
use super::{Report, Style, write_terminal};
use crate::verdict::{Cause, Judged, State};
use crate::verify::CheckResult;

/// What GitHub takes as a comment, in characters.
const CHARS_MAX: usize = 65_536;
/// Of that, room for saying what was left out.
const NOTE: usize = 300;

/// Writes the report as GitHub's Markdown, in at most 65,536 characters; what finds no room is counted.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, exit_code: u8, out: &mut impl Write) -> io::Result<()> {
    let cases = cases(report);
    let mut page = Page::default();
    page.push(&heading(report));
    page.push(&summary(report, exit_code, &cases));
    table(&mut page, report, &cases);
    let mut left = 0;
    for case in cases.iter().filter(|c| c.is_shown()) {
        let section = section(report, case);
        left += usize::from(!section.is_empty() && !page.push(&section));
    }
    let footer = footer(report);
    page.push(&footer);
    let mut text = Vec::new();
    write_terminal(report, Style::default(), &mut text)?;
    let whole = folded("The whole report", &pre(&String::from_utf8_lossy(&text)));
    if left > 0 {
        page.note(&format!("{left} more sections found no room here."));
    } else if !page.push(&whole) {
        page.note("The whole report found no room here.");
    }
    out.write_all(page.text.as_bytes())
}

/// Text of a bounded length.
#[derive(Default)]
struct Page {
    text: String,
    chars: usize,
}

impl Page {
    /// Adds a part as a whole, or not at all.
    fn push(&mut self, part: &str) -> bool {
        let chars = part.chars().count();
        let fits = self.chars + chars <= CHARS_MAX - NOTE;
        if fits {
            self.text.push_str(part);
            self.chars += chars;
        }
        fits
    }

    fn note(&mut self, text: &str) {
        self.text.push_str(&format!("\n_{text}_\n"));
    }
}

fn marked(judged: Judged) -> (&'static str, &'static str) {
    match judged {
        Judged::Passed => ("✅", "passed"),
        Judged::Warned => ("⚠️", "warned"),
        Judged::Failed => ("❌", "failed"),
        Judged::Inconclusive => ("❔", "inconclusive"),
        Judged::Interrupted => ("❔", "interrupted"),
    }
}

fn heading(report: &Report) -> String {
    let (mark, word) = marked(report.judged());
    let what = match &report.race {
        Some(race) => format!(" {}: {}", text(&race.scenario), text(&race.title)),
        None => String::new(),
    };
    format!("## {mark} db-race {}{what}: {word}\n\n", report.command)
}

fn summary(report: &Report, exit_code: u8, cases: &[Case<'_>]) -> String {
    let mut lines = Vec::new();
    if report.judged() != report.verdict.outcome {
        let (_, verdict) = marked(report.verdict.outcome);
        lines.push(format!(
            "The verdict is {verdict}; the run's flags make it exit code {exit_code}."
        ));
    }
    if let Some(bug) = report.race.as_ref().and_then(|r| r.bug.as_ref()) {
        lines.push(format!("With the bug {}: {}.", code(&bug.name), text(&bug.title)));
    }
    let cause = match report.verdict.cause {
        Some(Cause::ConcurrencyBug) => Some("A concurrency bug: the same attempts, one after another, break nothing."),
        Some(Cause::PlainBug) => Some("A plain bug: the same attempts, one after another, break it too."),
        Some(Cause::Both) => Some("A plain bug and a concurrency bug: some rules break one after another too."),
        None => None,
    };
    lines.extend(cause.map(str::to_string));
    let count = |is: &dyn Fn(&Case<'_>) -> bool| cases.iter().filter(|c| is(c)).count();
    let parts = [
        ("broken", count(&|c| c.state == State::Broken && !c.warning)),
        ("worth a look", count(&|c| c.state == State::Broken && c.warning)),
        ("could not be decided", count(&|c| c.state == State::NoData)),
        ("pending", count(&|c| c.state == State::Pending)),
        ("skipped", count(&|c| c.state == State::Skipped)),
        ("held", count(&|c| c.state == State::Held)),
    ];
    let parts = parts
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(word, n)| format!("{n} {word}"));
    lines.push(format!("{}.", parts.collect::<Vec<_>>().join(", ")));
    format!("{}\n\n", lines.join("\\\n"))
}

/// All that did not hold.
fn table(page: &mut Page, report: &Report, cases: &[Case<'_>]) {
    let mut cases = cases.iter().filter(|c| c.state != State::Held).peekable();
    if cases.peek().is_none() {
        return;
    }
    let is_spread = report.databases.len() > 1;
    page.push(match is_spread {
        true => "| | check | database | found |\n|---|---|---|---|\n",
        false => "| | rule | found |\n|---|---|---|\n",
    });
    let mut left = 0;
    for case in cases {
        let mark = match (case.state, case.warning) {
            (State::Held, _) => "✅",
            (State::Broken, false) => "❌",
            (State::Broken, true) => "⚠️",
            (State::NoData, _) => "❔",
            (State::Pending, _) => "⏳",
            (State::Skipped, _) => "⏭️",
        };
        let title = case.title.map(|t| format!("<br>{}", text(t))).unwrap_or_default();
        let on = if is_spread {
            format!(" {} |", code(&case.suite))
        } else {
            String::new()
        };
        let found = text(&cut(&case.measured, SHOWN_MAX));
        let row = format!("| {mark} | {}{title} |{on} {found} |\n", code(&case.name));
        left += usize::from(!page.push(&row));
    }
    page.push("\n");
    if left > 0 {
        page.push(&format!("and {left} more\n\n"));
    }
}

/// What a check found, to unfold.
fn section(report: &Report, case: &Case<'_>) -> String {
    let on = if report.databases.len() > 1 {
        format!(" on {}", case.suite)
    } else {
        String::new()
    };
    let title = format!("{}{on}: {}", case.name, case.measured);
    let Some(check) = case.check else {
        return match case.details.lines().count() {
            0 | 1 => String::new(),
            _ => folded(&title, &pre(&case.details)),
        };
    };
    let line = check.line.max(1);
    let mut body = format!("{} ({}:{line})\n\n", text(&check.title), code(&check.file));
    if let Some(reason) = &check.reason {
        body.push_str(&pre(reason));
    }
    body.push_str(&rows(check));
    let shown = check.findings.len() as u64;
    let left = (check.count + check.pending).saturating_sub(shown);
    if left > 0 {
        let plus = if check.count_is_capped { "+" } else { "" };
        body.push_str(&format!("and {left}{plus} more\n\n"));
    }
    for (name, value) in [("Remedy", &check.remedy), ("Owner", &check.owner)] {
        if let Some(value) = value {
            body.push_str(&format!("{name}: {}\n\n", text(value)));
        }
    }
    folded(&title, &body)
}

fn rows(check: &CheckResult) -> String {
    let Some(first) = check.findings.first() else {
        return String::new();
    };
    let has_pending = check.findings.iter().any(|f| f.pending);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut titles: Vec<String> = first.row.iter().map(|(column, _)| text(&visible(column))).collect();
    if has_pending {
        titles.push(String::new());
    }
    let ruler = vec!["---".to_string(); titles.len()];
    let mut table = line(titles) + &line(ruler);
    for finding in &check.findings {
        let mut cells: Vec<String> = finding.row.iter().map(|(_, v)| code(&value(v.as_deref()))).collect();
        if has_pending {
            cells.push(if finding.pending { "pending" } else { "" }.into());
        }
        table.push_str(&line(cells));
    }
    table + "\n"
}

fn footer(report: &Report) -> String {
    let mut parts = Vec::new();
    let versions = match report.databases.as_slice() {
        [] => vec![&report.server.version],
        some => some.iter().map(|d| &d.version).collect(),
    };
    for version in versions {
        let part = format!("PostgreSQL {}", text(version.split(' ').next().unwrap_or_default()));
        if !version.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.push(format!("{:.1} s", report.duration_ms as f64 / 1e3));
    parts.push(format!("db-race {}", report.version));
    if let Some(command) = &report.reproduce {
        parts.push(format!("again: {}", code(command)));
    }
    format!("<sub>{}</sub>\n\n", parts.join(" · "))
}

fn folded(title: &str, body: &str) -> String {
    let title = text(&cut(title, SHOWN_MAX));
    format!("<details><summary>{title}</summary>\n\n{body}\n</details>\n\n")
}

/// Text in which nothing is Markdown, HTML, a mention, a link or the end of a table's cell, in one line.
fn text(text: &str) -> String {
    let text = visible(text);
    let mut escaped = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_markup = match c {
            '&' | '<' | '>' | '|' | '`' | '*' | '~' | '[' | ']' | '\\' | '#' | '$' => true,
            // inside of a word it is a letter
            '_' => !(escaped.ends_with(char::is_alphanumeric) && chars.peek().is_some_and(|c| c.is_alphanumeric())),
            // a list, a ruler or a heading
            '-' | '+' | '=' => escaped.is_empty(),
            ':' => chars.peek() == Some(&'/'),
            _ => false,
        };
        match c {
            // a mention needs the sign before a name
            '@' => escaped.push_str("@<!-- -->"),
            c if is_markup => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A value. Inside of `<code>` nobody is mentioned and nothing is linked.
fn code(value: &str) -> String {
    // no line begins here
    let inside = text(&format!(".{value}")).replace("@<!-- -->", "@");
    format!("<code>{}</code>", &inside[1..])
}

/// Lines as they are, in a fence that they do not end.
fn pre(lines: &str) -> String {
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines: Vec<String> = lines.lines().map(|l| visible(l).into_owned()).collect();
    format!("{fence}text\n{}\n{fence}\n\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_no_markup() {
        assert_eq!(
            code("a|b`c`<b>\n@all"),
            "<code>a&#124;b&#96;c&#96;&#60;b&#62;&#92;n@all</code>"
        );
        assert_eq!(text("@all # x"), "@<!-- -->all &#35; x");
        assert_eq!(pre("a\n````\nb"), "`````text\na\n````\nb\n`````\n\n");
    }

    #[test]
    fn a_page_has_an_end() {
        let mut page = Page::default();
        assert!(page.push(&"ä".repeat(CHARS_MAX - NOTE)));
        assert!(!page.push("x"));
        page.note(&format!("{} more sections found no room here.", usize::MAX));
        assert!(page.text.chars().count() <= CHARS_MAX);
    }
}
