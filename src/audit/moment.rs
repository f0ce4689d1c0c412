//! A point in time, as a memory keeps it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// A point in time, to the millisecond; written in RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(SystemTime);

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment::from(SystemTime::now())
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Moment> {
        Some(Moment::from(humantime::parse_rfc3339(text).ok()?))
    }

    /// How long after an earlier one; nothing when clocks were set back.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.duration_since(earlier.0).unwrap_or_default()
    }

    /// So much before; the epoch at the earliest.
    #[must_use]
    pub fn before(self, time: Duration) -> Moment {
        Moment(self.0.checked_sub(time).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH))
    }

    /// The day, `2026-11-21`, in UTC.
    pub fn date(self) -> String {
        self.to_string().chars().take("2026-11-21".len()).collect()
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Moment {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Moment(UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A length of time in its two largest units: `3d 4h`, `12m 5s`, `0s`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(first).take(2).enumerate();
    let shown = shown.filter(|(i, (n, _))| *i == 0 || *n > 0);
    shown
        .map(|(_, (n, unit))| format!("{n}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let now = Moment::now();
        assert_eq!(Moment::parse(&now.to_string()), Some(now));
        assert_eq!(Moment::parse("2026-11-21T10:00:00.250Z").unwrap().date(), "2026-11-21");
        assert_eq!(now.since(now.before(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(now.before(Duration::MAX), Moment::from(UNIX_EPOCH));
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (65, "1m 5s"),
            (3_600, "1h"),
            (90_061, "1d 1h"),
            (86_460, "1d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
    }
}
