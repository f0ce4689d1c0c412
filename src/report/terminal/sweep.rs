//! A sweep that a person reads: a row a size, with its throughput as a bar, and the knee.

use std::io::{self, Write};
use std::time::Duration;

use super::{Paper, Style, Table};
use crate::sweep::{KneeKind, Point, Sweep, show_rate};
use crate::verdict::show_time;

/// Columns of the longest bar.
const BAR: f64 = 30.0;
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Writes a sweep.
///
/// # Errors
/// When the writer fails.
pub fn write_sweep(sweep: &Sweep, style: Style, out: &mut impl Write) -> io::Result<()> {
    let paper = &mut Paper { out, style };
    paper.line(0, &format!("{}: {}", sweep.scenario, sweep.title))?;
    let each = match sweep.repeats {
        1 => "one run each".to_string(),
        n => format!("{n} runs each, in turn"),
    };
    let what = if sweep.of == "pool" { "pool size" } else { "sessions" };
    paper.line(
        2,
        &format!("throughput by {what}, {each}; without gates, and nothing is judged"),
    )?;
    paper.blank()?;
    let most = sweep.points.iter().map(|p| p.per_second.median).fold(0.0, f64::max);
    let knee = sweep
        .knee
        .as_ref()
        .filter(|k| k.kind == KneeKind::Measured)
        .map(|k| k.size);
    let mut table = Table::with_header(&[
        ">size",
        ">attempts/s",
        ">min..max",
        "",
        ">p95",
        ">pool wait p95",
        ">timeouts",
        ">lock waits",
        ">deadlocks",
        "pool dry by",
    ]);
    for point in &sweep.points {
        table.row(row(point, most, knee == Some(point.size)));
    }
    paper.table(2, table)?;
    paper.blank()?;
    match &sweep.knee {
        Some(knee) => paper.line(0, &knee.text)?,
        None => paper.line(0, "no knee: fewer than two sizes were measured")?,
    }
    for note in &sweep.notes {
        paper.line(0, &format!("note: {note}"))?;
    }
    paper.blank()?;
    let place = match sweep.server.throwaway {
        true => "throwaway server".to_string(),
        false => sweep.server.address.clone(),
    };
    let version = sweep.server.version.split(' ').next().unwrap_or_default();
    paper.line(0, &format!("PostgreSQL {version} ({place})"))?;
    paper.line(0, &format!("again: {}", sweep.reproduce))
}

fn row(point: &Point, most: f64, is_knee: bool) -> [String; 10] {
    let rate = point.per_second;
    let time = |ms: f64| show_time(Duration::from_secs_f64(ms / 1e3));
    let mut bar = bar(rate.median / most.max(f64::MIN_POSITIVE));
    if is_knee {
        bar.push_str(" ← knee");
    }
    [
        point.size.to_string(),
        show_rate(rate.median),
        format!("{}..{}", show_rate(rate.min), show_rate(rate.max)),
        bar,
        time(point.p95_ms),
        time(point.wait_p95_ms),
        point.timeouts.to_string(),
        point.lock_waits.to_string(),
        point.deadlocks.to_string(),
        point
            .causes
            .first()
            .map_or(String::new(), |cause| cause.replace('_', " ")),
    ]
}

/// A bar, to an eighth of a column.
fn bar(part: f64) -> String {
    let eighths = (part.clamp(0.0, 1.0) * BAR * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_part() {
        assert_eq!(bar(1.0).chars().count(), 30);
        assert_eq!(bar(0.5), "█".repeat(15));
        assert_eq!(bar(1.0 / 240.0), "▏");
        assert_eq!((bar(0.0).as_str(), bar(9.0).chars().count()), ("", 30));
    }
}
