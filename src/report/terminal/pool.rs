//! The section of a pool: how long sessions waited for it, how it was used over time, and why it gave no connection.

use std::io::{self, Write};

use super::Paper;
use crate::report::{PoolPoint, PoolResult};
use crate::scenario::Figure;
use crate::verdict::show_time;

/// Columns of a line that shows something over time.
const COLUMNS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn write<W: Write>(paper: &mut Paper<'_, W>, pool: &PoolResult) -> io::Result<()> {
    let failed = pool.timeouts + pool.create_timeouts + pool.server_full + pool.connect_errors;
    if failed == 0 && pool.causes.is_empty() && pool.size >= pool.sessions {
        return Ok(());
    }
    let named = match pool.name.as_str() {
        "pool" => "Pool".to_string(),
        name => format!("Pool {name}"),
    };
    paper.title(&format!(
        "{named}: {} {} for {} {}",
        pool.size,
        if pool.size == 1 { "connection" } else { "connections" },
        pool.sessions,
        if pool.sessions == 1 { "session" } else { "sessions" }
    ))?;
    for cause in &pool.causes {
        paper.line(2, &cause.text)?;
    }
    paper.line(2, &waits(pool))?;
    over_time(paper, pool)
}

fn waits(pool: &PoolResult) -> String {
    let figure = |f| pool.wait.figure(f).map_or("none".into(), show_time);
    let mut text = format!(
        "wait for a connection: med {}, p95 {}, max {}",
        figure(Figure::Percentile(50.0)),
        figure(Figure::Percentile(95.0)),
        figure(Figure::Max),
    );
    if pool.timeouts > 0 {
        text.push_str(&format!("; {} timed out", pool.timeouts));
    }
    if pool.nested_timeouts > 0 {
        text.push_str(&format!(" ({} with another connection in hand)", pool.nested_timeouts));
    }
    for (n, what) in [
        (pool.create_timeouts, "were too slow to connect"),
        (pool.server_full, "met a full server"),
        (pool.connect_errors, "could not connect"),
    ] {
        if n > 0 {
            text.push_str(&format!("; {n} {what}"));
        }
    }
    if pool.dry_ms >= 1.0 {
        text.push_str(&format!("; dry for {:.0} ms", pool.dry_ms));
    }
    text
}

fn over_time<W: Write>(paper: &mut Paper<'_, W>, pool: &PoolResult) -> io::Result<()> {
    let most = |of: fn(&PoolPoint) -> u32| pool.usage.iter().map(of).max().unwrap_or(0);
    let (in_use, waiting) = (most(|p| p.in_use), most(|p| p.waiting));
    if waiting == 0 && in_use < pool.size {
        return Ok(());
    }
    let of = |of: fn(&PoolPoint) -> u32| pool.usage.iter().map(of).collect::<Vec<_>>();
    let in_use_line = bars(&of(|p| p.in_use), pool.size);
    paper.line(2, &format!("in use   {in_use_line}  at most {in_use} of {}", pool.size))?;
    let waiting_line = bars(&of(|p| p.waiting), waiting);
    paper.line(2, &format!("waiting  {waiting_line}  at most {waiting}"))
}

/// A line of bars, the peaks of so many even parts, the tallest one for `full`. Nothing is a space.
fn bars(values: &[u32], full: u32) -> String {
    let columns = COLUMNS.min(values.len());
    let bar = |column: usize| {
        let part = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
        let peak = part.iter().copied().max().unwrap_or(0);
        match peak as usize * BARS.len() {
            0 => ' ',
            n => BARS[n.div_ceil(full.max(1) as usize).clamp(1, BARS.len()) - 1],
        }
    };
    (0..columns).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_peaks_and_nothing_as_nothing() {
        assert_eq!(bars(&[0, 1, 4, 8], 8), " ▁▄█");
        assert_eq!(bars(&[], 8), "");
        assert_eq!(bars(&[3], 0), "█");
        let mut long = vec![1; 600];
        long[333] = 9;
        let shown = bars(&long, 9);
        assert_eq!(shown.chars().count(), COLUMNS);
        assert_eq!(shown.chars().filter(|c| *c == '█').count(), 1, "{shown}");
    }
}
