//! Statements that a server said were slow, in the order it said so, and which of them stood in a deadlock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Statements remembered of a process.
const REMEMBERED: usize = 256;
/// Of a statement's text and of its context, at the most so many bytes are kept.
const TEXT_MAX: usize = 2_000;

/// A statement, perhaps inside a procedure, that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// By when it had ended: when the server's word was read, or when the statement after it began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// Its text.
    pub text: String,
    /// The statements and functions around it, innermost first.
    pub context: Option<String>,
}

/// The latest slow statements of a process.
#[derive(Debug, Default)]
pub(super) struct SlowStatements {
    all: VecDeque<Slow>,
}

impl SlowStatements {
    /// Adds what a notice tells that was just read, if it tells of a slow statement.
    ///
    /// A busy reader reads late, and then several at once. So what came before a statement is known to have ended when
    /// that one began, whenever it was read.
    pub(super) fn add(&mut self, read: Instant, message: &str, context: Option<&str>) {
        let Some((took, text)) = explained(message) else {
            return;
        };
        let slow = Slow {
            at: read,
            took,
            text: head(text, TEXT_MAX).to_string(),
            context: context.map(|c| head(c, TEXT_MAX).to_string()),
        };
        if let Some(began) = read.checked_sub(took).filter(|_| slow.runs_at_once()) {
            let before = self.all.iter_mut().rev().take_while(|s| s.at > began);
            before.filter(|s| !slow.encloses(s)).for_each(|s| s.at = began);
        }
        self.all.push_back(slow);
        if self.all.len() > REMEMBERED {
            self.all.pop_front();
        }
    }

    /// The innermost one that still ran at `then` and had begun by `later`: the first to end, because outer ones end after
    /// those inside them.
    pub(super) fn running(&self, then: Instant, later: Instant) -> Option<&Slow> {
        let begun = |s: &&Slow| s.at.checked_sub(s.took).is_some_and(|from| from <= later);
        let running = self.all.iter().filter(|s| s.at >= then);
        running.filter(begun).min_by_key(|s| s.at)
    }

    /// The innermost one that ended when something happened of which we were told at `told`: both tidings may be late, and
    /// not by the same, so it is the one that ended nearest to it, within `limit`.
    pub(super) fn ended_with(&self, told: Instant, limit: Duration) -> Option<&Slow> {
        let off = |s: &&Slow| s.at.max(told) - s.at.min(told);
        let mut found = self.all.iter().filter(|s| off(s) <= limit).min_by_key(off)?;
        let inside = |outer: &Slow| {
            let fits = |s: &&Slow| outer.encloses(s) && s.at <= outer.at && off(s) <= limit;
            self.all.iter().filter(fits).max_by_key(|s| s.at)
        };
        while let Some(inner) = inside(found) {
            found = inner;
        }
        Some(found)
    }
}

impl Slow {
    /// Whether another one was run by this one: its context goes on where that of the other one ends.
    fn encloses(&self, other: &Slow) -> bool {
        let around = self.context.as_deref().unwrap_or_default();
        let inner = other.context.as_deref().unwrap_or_default();
        inner.len() > around.len() && inner.ends_with(around)
    }

    /// Whether it is a procedure's statement that is run from its begin to its end, as a cursor's is not: the server has
    /// put its text before the place where it stands.
    fn runs_at_once(&self) -> bool {
        let whole = |c: &str| c.starts_with("SQL statement \"") && c.len() < TEXT_MAX;
        self.context.as_deref().is_some_and(whole)
    }
}

/// Reads `duration: 177.972 ms  plan:\nQuery Text: update ...\nUpdate on acct  (cost=...`: how long, and what. A
/// procedure's own notices are none of these.
fn explained(message: &str) -> Option<(Duration, &str)> {
    let rest = message.strip_prefix("duration: ")?;
    let (ms, rest) = rest.split_once(" ms  plan:\n")?;
    let text = rest.strip_prefix("Query Text: ")?;
    let took = Duration::try_from_secs_f64(ms.parse::<f64>().ok()? / 1e3).ok()?;
    // the plan's first line is the first one with costs
    let plan = text.find("  (cost=").and_then(|cost| text[..cost].rfind('\n'));
    Some((took, text[..plan.unwrap_or(text.len())].trim()))
}

fn head(text: &str, max: usize) -> &str {
    let cut = (0..=max.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    &text[..cut.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "SQL statement \"select book()\"\nPL/pgSQL function f() line";

    /// Statements by when they were read, how long they took and their context; their text is when they began.
    fn said(all: &[(u64, u64, &str)]) -> (SlowStatements, Instant) {
        let zero = Instant::now();
        let mut slow = SlowStatements::default();
        for (read, took, context) in all {
            let message = format!("duration: {took} ms  plan:\nQuery Text: {}", read.saturating_sub(*took));
            let context = (!context.is_empty()).then_some(*context);
            slow.add(zero + Duration::from_millis(*read), &message, context);
        }
        (slow, zero)
    }

    #[test]
    fn a_plan_is_told_from_a_procedures_own_words() {
        let message = "duration: 177.972 ms  plan:\nQuery Text: update acct\n   set bal = 1\n\
            Update on acct  (cost=0.15..8.17 rows=0 width=0)\n  ->  Seq Scan on acct  (cost=0.15..8.17 rows=1 width=10)";
        let (took, text) = explained(message).unwrap();
        assert_eq!((took.as_micros(), text), (177_972, "update acct\n   set bal = 1"));
        assert_eq!(explained("duration: long"), None);
        assert_eq!(explained("duration: -1 ms  plan:\nQuery Text: x"), None);
        assert_eq!(explained("hello"), None);
        assert_eq!(head("äöü", 3), "ä");
    }

    #[test]
    fn the_innermost_statement_of_a_moment_is_the_first_to_end() {
        let (all, zero) = said(&[(60, 50, ""), (300, 200, ""), (310, 230, ""), (400, 80, "")]);
        let at = |ms| zero + Duration::from_millis(ms);
        let found = |then, later| all.running(at(then), at(later)).map(|s| s.text.as_str());
        assert_eq!(found(200, 200), Some("100"));
        assert_eq!(found(90, 90), Some("80"));
        assert_eq!(found(90, 200), Some("100"), "read late");
        assert_eq!(found(5, 5), None);
        assert_eq!(found(500, 600), None);
    }

    #[test]
    fn what_was_read_late_had_ended_when_the_next_statement_began() {
        let [first, second, inner] = [
            format!("{BOOK} 4 at PERFORM"),
            format!("{BOOK} 5 at SQL statement"),
            format!("SQL statement \"select 1\"\nPL/pgSQL function g() line 2 at PERFORM\n{BOOK} 5 at SQL statement"),
        ];
        // all of them read at once, 300 ms after the deadlock at 500
        let (all, zero) = said(&[
            (800, 30, &first),
            (801, 250, &inner),
            (802, 251, &second),
            (803, 400, ""),
        ]);
        let at = |ms| zero + Duration::from_millis(ms);
        let found = |then| all.running(at(then), at(800)).map(|s| s.text.as_str());
        assert_eq!(found(500), Some("770"), "nothing tells the first from the others");
        let (all, zero) = said(&[
            (800, 30, &first),
            (801, 450, &inner),
            (802, 451, &second),
            (803, 600, ""),
        ]);
        let at = |ms| zero + Duration::from_millis(ms);
        let found = |then| all.running(at(then), at(800)).map(|s| s.text.as_str());
        assert_eq!(found(500), Some("351"));
        // a cursor's is run in turns with the statements of its loop
        let cursor = "PL/pgSQL function f() line 3 at FOR over SELECT rows";
        let (all, zero) = said(&[(800, 200, &first), (801, 450, cursor)]);
        assert_eq!(all.all[0].at, zero + Duration::from_millis(800));
    }

    #[test]
    fn what_ended_with_a_deadlock_is_nearest_to_it_and_innermost() {
        let [first, second, third, inner] = [
            format!("{BOOK} 4 at PERFORM"),
            format!("{BOOK} 5 at SQL statement"),
            format!("{BOOK} 6 at SQL statement"),
            format!("SQL statement \"select 1\"\nPL/pgSQL function g() line 2 at PERFORM\n{BOOK} 5 at SQL statement"),
        ];
        let (all, zero) = said(&[
            (100, 30, &first),
            (300, 190, &inner),
            (301, 195, &second),
            (400, 50, &third),
            (402, 400, ""),
        ]);
        let found = |ms| {
            let found = all.ended_with(zero + Duration::from_millis(ms), Duration::from_millis(40));
            found.map(|s| s.text.as_str())
        };
        assert_eq!(found(290), Some("110"), "the others' end was read first");
        assert_eq!(found(320), Some("110"), "our end was read first");
        assert_eq!(
            found(405),
            Some("350"),
            "the inner one, though the outer one ended nearer"
        );
        assert_eq!(found(200), None);
    }
}
