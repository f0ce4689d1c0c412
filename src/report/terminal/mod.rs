//! The report that a person reads: the verdict first, then what it rests on.

mod audit;
mod findings;
mod groups;
mod locks;
mod pool;
mod race;
mod story;
mod sweep;
mod table;

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style as Ansi};

use super::Report;
use super::case::{database, database_name};
use crate::verdict::{Cause, Judged, Judgement, State, show_time};
use crate::verify::{DatabaseResult, Decision};
use table::Table;

pub use audit::write_history;
pub(super) use findings::finding_text;
pub use story::write_story;
pub use sweep::write_sweep;

/// How wide, and whether in colour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Columns; none: lines are as long as they need to be.
    pub width: Option<u16>,
    /// Whether to use colour.
    pub color: bool,
}

/// Writes the report.
///
/// # Errors
/// When the writer fails.
pub fn write(report: &Report, style: Style, out: &mut impl Write) -> io::Result<()> {
    let paper = &mut Paper { out, style };
    heading(paper, report)?;
    rules(paper, report)?;
    if let Some(race) = &report.race {
        race::write(paper, race)?;
    }
    match &report.audit {
        Some(audit) => audit::write(paper, report, audit)?,
        None => findings::write(paper, report)?,
    }
    footer(paper, report)
}

/// Where a report is written, and how.
struct Paper<'a, W> {
    out: &'a mut W,
    style: Style,
}

impl<W: Write> Paper<'_, W> {
    /// A line, indented, wrapped at the width.
    fn line(&mut self, indent: usize, text: &str) -> io::Result<()> {
        let width = self.style.width.map_or(usize::MAX, |w| usize::from(w).max(20));
        for line in wrap(text, width.saturating_sub(indent)) {
            writeln!(self.out, "{:indent$}{line}", "")?;
        }
        Ok(())
    }

    fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// The title of a section.
    fn title(&mut self, text: &str) -> io::Result<()> {
        self.blank()?;
        let text = self.paint(text, Ansi::new().bold());
        self.line(0, &text)
    }

    fn table(&mut self, indent: usize, table: Table) -> io::Result<()> {
        for line in self.rendered(indent, table) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// A table whose rows may begin with a mark, in colour. It is painted last: escape codes would count as text.
    fn marked_table(&mut self, indent: usize, table: Table) -> io::Result<()> {
        for line in self.rendered(indent, table) {
            let mark = MARKS.iter().find(|(mark, _)| line.trim_start().starts_with(*mark));
            let line = match mark {
                Some((mark, ansi)) => line.replacen(*mark, &self.paint(mark, *ansi), 1),
                None => line,
            };
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn rendered(&self, indent: usize, table: Table) -> Vec<String> {
        // the lines of a table have a space before them
        let indent = indent.saturating_sub(1);
        let width = self.style.width.map(|w| w.saturating_sub(indent as u16));
        let lines = table.render(width);
        let wrapped = lines.iter().flat_map(|line| match width {
            Some(width) if line.chars().count() > usize::from(width) => {
                let own = line.len() - line.trim_start().len();
                let room = usize::from(width).saturating_sub(own + 2);
                let parts = wrap(line.trim_start(), room).into_iter().enumerate();
                parts
                    .map(|(i, part)| format!("{:1$}{part}", "", own + if i > 0 { 2 } else { 0 }))
                    .collect()
            }
            _ => vec![line.clone()],
        });
        wrapped.map(|line| format!("{:indent$}{line}", "")).collect()
    }

    fn paint(&self, text: &str, ansi: Ansi) -> String {
        match self.style.color {
            true => format!("{ansi}{text}{ansi:#}"),
            false => text.to_string(),
        }
    }
}

const GREEN: Ansi = AnsiColor::Green.on_default().bold();
const RED: Ansi = AnsiColor::Red.on_default().bold();
const YELLOW: Ansi = AnsiColor::Yellow.on_default().bold();
const DIM: Ansi = Ansi::new().dimmed();
const MARKS: [(&str, Ansi); 6] = [
    ("✓", GREEN),
    ("✗", RED),
    ("!", YELLOW),
    ("?", YELLOW),
    ("…", YELLOW),
    ("-", DIM),
];

fn heading<W: Write>(paper: &mut Paper<'_, W>, report: &Report) -> io::Result<()> {
    let (word, ansi) = match report.verdict.outcome {
        Judged::Passed => ("PASSED", GREEN),
        Judged::Warned => ("WARNED", YELLOW),
        Judged::Failed => ("FAILED", RED),
        Judged::Inconclusive => ("INCONCLUSIVE", YELLOW),
        Judged::Interrupted => ("INTERRUPTED", YELLOW),
    };
    let what = match &report.race {
        Some(race) => format!("{}: {}", race.scenario, race.title),
        None => {
            // what was skipped has passed nothing
            let skipped = report.checks.iter().filter(|c| c.decision == Decision::Skipped).count();
            let mut checks = match report.checks.len() - skipped {
                1 => "1 check".to_string(),
                n => format!("{n} checks"),
            };
            if skipped > 0 {
                checks.push_str(&format!(", {skipped} skipped,"));
            }
            match report.databases.len() {
                _ if report.server.throwaway => format!("{checks} on the system as seeded"),
                0 | 1 => format!("{checks} on {}", report.server.address),
                n => format!("{checks} on {n} databases"),
            }
        }
    };
    let word = paper.paint(word, ansi);
    paper.line(0, &format!("{word}  {what}"))?;
    if let Some(bug) = report.race.as_ref().and_then(|r| r.bug.as_ref()) {
        paper.line(2, &format!("with the bug {}: {}", bug.name, bug.title))?;
    }
    if report.verdict.outcome == Judged::Failed
        && let Some(race) = &report.race
    {
        let text = match report.verdict.cause {
            Some(Cause::ConcurrencyBug) => "a concurrency bug: the same attempts, one after another, break nothing",
            Some(Cause::PlainBug) => "a plain bug: the same attempts, one after another, break it too",
            Some(Cause::Both) => {
                "a plain bug and a concurrency bug: some rules break one after another too, some only in the race"
            }
            None if race.control.is_none() => "without the serial control nobody knows whether it takes a race",
            None => "the serial control can't tell whether it takes a race",
        };
        paper.line(2, text)?;
    }
    // an inconclusive run has it among its reasons
    if report.verdict.outcome == Judged::Failed
        && let Some(why) = report.race.as_ref().and_then(|r| r.cut_short.as_ref())
    {
        paper.line(2, why)?;
    }
    if matches!(report.verdict.outcome, Judged::Inconclusive | Judged::Interrupted) {
        for reason in &report.verdict.reasons {
            paper.line(2, reason)?;
        }
        if report.verdict.outcome == Judged::Interrupted {
            paper.line(2, "what follows was seen until then")?;
        }
    }
    Ok(())
}

fn rules<W: Write>(paper: &mut Paper<'_, W>, report: &Report) -> io::Result<()> {
    let verdict = &report.verdict;
    let rounds = report.race.as_ref().map_or(0, |r| r.rounds.len());
    paper.blank()?;
    let broken_in_control = |r: &Judgement| r.control == Some(State::Broken);
    let quiet = |r: &Judgement| r.rule.starts_with("check ") && r.state == State::Held && !broken_in_control(r);
    let has_control = verdict.rules.iter().any(|r| r.control.is_some());
    let mut table = Table::new();
    // of several databases, each check has a rule of its own
    let is_spread = report.databases.len() > 1 && report.checks.len() == verdict.rules.len();
    for (i, rule) in verdict.rules.iter().enumerate().filter(|(_, r)| !quiet(r)) {
        let mark = match (rule.state, rule.warning) {
            _ if broken_in_control(rule) && !rule.warning => '✗',
            (State::Held, _) => '✓',
            (State::Broken, false) => '✗',
            (State::Broken, true) => '!',
            (State::NoData, _) => '?',
            (State::Pending, _) => '…',
            (State::Skipped, _) => '-',
        };
        let mut measured = rule.measured.clone();
        if rule.broken_rounds > 1 {
            measured.push_str(&format!("; broken in {} of {rounds} rounds", rule.broken_rounds));
        }
        let mut row = vec![format!("{mark} {}", rule.rule), measured];
        if is_spread {
            row.insert(1, database(report, &report.checks[i]));
        }
        if has_control {
            row.push(match (&rule.control, &rule.control_measured) {
                (Some(State::Broken), Some(figure)) => format!("control broke too: {figure}"),
                (Some(_), Some(_)) if rule.state == State::Broken => "control held".into(),
                _ => String::new(),
            });
        }
        table.row(row);
    }
    paper.marked_table(2, table)?;
    let quiet: Vec<&Judgement> = verdict.rules.iter().filter(|r| quiet(r)).collect();
    if !quiet.is_empty() {
        let mark = paper.paint("✓", GREEN);
        let n = quiet.len();
        paper.line(
            2,
            &format!("{mark} {n} {} held", if n == 1 { "check" } else { "checks" }),
        )?;
    }
    Ok(())
}

fn footer<W: Write>(paper: &mut Paper<'_, W>, report: &Report) -> io::Result<()> {
    let server = &report.server;
    let mut notes = report.notes.clone();
    if let Some(race) = &report.race {
        notes.extend(race.notes.iter().cloned());
    }
    for note in notes {
        paper.blank()?;
        paper.line(0, &format!("note: {note}"))?;
    }
    paper.blank()?;
    let place = match server.throwaway {
        true => "throwaway server".to_string(),
        false => server.address.clone(),
    };
    let version = bare(&server.version);
    let seconds = report.duration_ms as f64 / 1e3;
    if report.databases.len() > 1 {
        for database in &report.databases {
            let snapshots = snapshots(database).unwrap_or_else(|| "no snapshot".into());
            let version = bare(&database.version);
            paper.line(
                0,
                &format!("{}: PostgreSQL {version}{snapshots}", database_name(database)),
            )?;
        }
        return paper.line(0, &format!("{seconds:.1} s"));
    }
    paper.line(
        0,
        &format!(
            "PostgreSQL {version} ({place}, {}, fsync {}), {seconds:.1} s",
            server.isolation, server.fsync
        ),
    )?;
    if let Some(text) = report.databases.first().and_then(snapshots) {
        paper.line(0, text.trim_start_matches([',', ' ']))?;
    }
    if let Some(command) = &report.reproduce {
        paper.line(0, &format!("again: {command}"))?;
    }
    Ok(())
}

/// A version without the packager's suffix.
fn bare(version: &str) -> &str {
    version.split(' ').next().unwrap_or_default()
}

/// What the checks of a database saw: `, standby, 1 snapshot at LSN 0/1A2B3C, held 0.3 s`.
fn snapshots(database: &DatabaseResult) -> Option<String> {
    let first = database.snapshots.first()?;
    let mut text = String::new();
    if database.standby {
        text.push_str(", standby");
    }
    if let Some(lag) = database.replay_lag_ms {
        text.push_str(&format!(" {} behind", seconds(lag)));
    }
    let held: f64 = database.snapshots.iter().map(|s| s.held_ms).fold(0.0, f64::max);
    let at = first
        .lsn
        .as_ref()
        .map(|lsn| format!(" at LSN {lsn}"))
        .unwrap_or_default();
    text.push_str(&match database.snapshots.len() {
        1 => format!(", one snapshot{at}, held {}", seconds(held)),
        n => format!(", {n} snapshots, the first{at}, held {} at most", seconds(held)),
    });
    Some(text)
}

fn seconds(ms: f64) -> String {
    show_time(Duration::from_secs_f64((ms / 1e3).clamp(0.0, 1e9)))
}

/// Breaks a text at spaces so that each line has at most `width` columns, where it can. Escape sequences have no width.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let len = shown_width(word);
        if used > 0 && used + 1 + len > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 || !line.is_empty() {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += len;
    }
    lines.push(line);
    lines
}

fn shown_width(word: &str) -> usize {
    let mut inside = false;
    let shown = |c: &char| match (inside, c) {
        (_, '\x1b') => {
            inside = true;
            false
        }
        (true, c) => {
            inside = *c != 'm';
            false
        }
        (false, _) => true,
    };
    word.chars().filter(shown).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("extraordinary word", 5), ["extraordinary", "word"]);
        assert_eq!(wrap("\x1b[1mone\x1b[0m two", 7), ["\x1b[1mone\x1b[0m two"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
