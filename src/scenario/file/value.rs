//! Values as a scenario file has them: lengths of time, rates, numbers within bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use crate::scenario::Pause;
use crate::source::{Diagnostic, Source};

pub(super) fn bounded(source: &Source, value: &Spanned<u32>, range: RangeInclusive<u32>) -> Result<u32, Diagnostic> {
    let n = *value.get_ref();
    if range.contains(&n) {
        return Ok(n);
    }
    Err(source
        .error(value.span(), format!("{n} is out of range"))
        .label(format!("expected {} to {}", range.start(), range.end())))
}

/// More than zero.
pub(super) fn duration(source: &Source, text: &Spanned<String>) -> Result<Duration, Diagnostic> {
    match humantime::parse_duration(text.get_ref()) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(source
            .error(text.span(), format!("`{}` is no length of time", text.get_ref()))
            .label("expected like `500ms`, `2s` or `1m 30s`, more than zero")),
    }
}

pub(super) fn duration_or(
    source: &Source,
    text: &Option<Spanned<String>>,
    default: Duration,
) -> Result<Duration, Diagnostic> {
    text.as_ref().map_or(Ok(default), |text| duration(source, text))
}

/// `0s` is one, too.
pub(super) fn duration_or_zero(source: &Source, text: &Option<Spanned<String>>) -> Result<Duration, Diagnostic> {
    match text {
        Some(text) if humantime::parse_duration(text.get_ref()).is_ok_and(|d| d.is_zero()) => Ok(Duration::ZERO),
        text => duration_or(source, text, Duration::ZERO),
    }
}

/// `100ms`, or `50ms..200ms`.
pub(super) fn pause(source: &Source, text: &Option<Spanned<String>>) -> Result<Pause, Diagnostic> {
    let Some(text) = text else {
        return Ok(Pause::default());
    };
    let parse = |text: &str| humantime::parse_duration(text.trim()).ok();
    let (from, to) = text
        .get_ref()
        .split_once("..")
        .unwrap_or((text.get_ref(), text.get_ref()));
    match (parse(from), parse(to)) {
        (Some(from), Some(to)) if from <= to => Ok(Pause { from, to }),
        _ => Err(source
            .error(text.span(), format!("`{}` is no pause", text.get_ref()))
            .label("expected like `100ms`, or `50ms..200ms` to draw one in between")),
    }
}

/// `150/s`, `90/min`: in starts a second.
pub(super) fn rate(source: &Source, text: &Spanned<String>) -> Result<f64, Diagnostic> {
    let parsed = text.get_ref().split_once('/').and_then(|(number, unit)| {
        let number: f64 = number.trim().parse().ok()?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "min" | "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Some(number / seconds)
    });
    match parsed {
        Some(rate) if (0.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err(source
            .error(text.span(), format!("`{}` is no rate", text.get_ref()))
            .label("expected like `150/s` or `90/min`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spanned(text: &str) -> Option<Spanned<String>> {
        Some(Spanned::new(0..0, text.to_string()))
    }

    #[test]
    fn rates_and_pauses() {
        let source = Source::new("f.toml", "");
        let rate = |text| super::rate(&source, &spanned(text).unwrap()).ok();
        assert_eq!(rate("150/s"), Some(150.0));
        assert_eq!(rate("90 / min"), Some(1.5));
        for wrong in ["150", "x/s", "-1/s", "1/d", "inf/s"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
        let pause = |text| {
            super::pause(&source, &spanned(text))
                .ok()
                .map(|p| (p.from.as_millis(), p.to.as_millis()))
        };
        assert_eq!(pause("5ms"), Some((5, 5)));
        assert_eq!(pause("5ms..1s"), Some((5, 1000)));
        assert_eq!(pause("1s..5ms"), None);
        assert_eq!(pause("soon"), None);
    }
}
