//! The values of a header that have a grammar of their own.

use super::{Count, Threshold};

/// `> 5`, `>= 0.1%`
pub(super) fn threshold(text: &str) -> Option<Threshold> {
    let rest = text.trim().strip_prefix('>')?;
    let (is_strict, rest) = match rest.strip_prefix('=') {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let (is_percentage, number) = match rest.trim().strip_suffix('%') {
        Some(number) => (true, number),
        None => (false, rest),
    };
    let bound: f64 = number.trim().parse().ok()?;
    (bound.is_finite() && bound >= 0.0).then_some(Threshold {
        is_strict,
        bound,
        is_percentage,
    })
}

/// `capped(500)`, `exact` or `none`
pub(super) fn count(text: &str) -> Option<Count> {
    match text.trim() {
        "exact" => Some(Count::Exact),
        "none" => Some(Count::None),
        "capped" => Some(Count::default()),
        other => {
            let number = other.strip_prefix("capped(")?.strip_suffix(')')?;
            let cap = number.trim().parse().ok().filter(|n| *n > 0)?;
            Some(Count::Capped(cap))
        }
    }
}

/// `>= 14, < 18` as the first and the last major version.
pub(super) fn versions(text: &str) -> Option<(Option<u32>, Option<u32>)> {
    let (mut from, mut to) = (None, None);
    for part in text.split(',').map(str::trim) {
        if let Some(number) = part.strip_prefix(">=") {
            from = Some(number.trim().parse().ok()?);
        } else if let Some(number) = part.strip_prefix("<=") {
            to = Some(number.trim().parse().ok()?);
        } else if let Some(number) = part.strip_prefix('<') {
            to = Some(number.trim().parse::<u32>().ok()?.checked_sub(1)?);
        } else {
            return None;
        }
    }
    Some((from, to))
}

impl Threshold {
    /// Whether a count, out of a total, is beyond it. A percentage of nothing is none.
    pub fn is_exceeded(&self, count: u64, total: Option<u64>) -> bool {
        let measured = match (self.is_percentage, total) {
            (false, _) => count as f64,
            (true, Some(total)) if total > 0 => 100.0 * count as f64 / total as f64,
            (true, _) => return count > 0,
        };
        match self.is_strict {
            true => measured > self.bound,
            false => measured >= self.bound,
        }
    }
}
