//! `schedule = { ... }`: TOML -> [`Schedule`].

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::SESSIONS_MAX;
use super::group::GRACE;
use super::value::{bounded, duration, duration_or, duration_or_zero, rate};
use crate::scenario::{Ramp, Schedule, Stage};
use crate::source::{Diagnostic, Source, quoted};

/// k6's `maxDuration`.
const COUNTED_MAX: Duration = Duration::from_secs(600);
const ATTEMPTS_MAX: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSchedule {
    kind: Kind,
    iterations: Option<u32>,
    duration: Option<Spanned<String>>,
    start: Option<Spanned<toml::Value>>,
    rate: Option<Spanned<String>>,
    stages: Option<Vec<FileStage>>,
    ramp_down: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    PerSession,
    Shared,
    Constant,
    Ramping,
    ConstantRate,
    RampingRate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStage {
    duration: Spanned<String>,
    target: Spanned<toml::Value>,
}

/// When a group makes attempts, and with how many sessions.
pub(super) fn schedule_and_sessions(
    source: &Source,
    name: &Spanned<String>,
    sessions: Option<&Spanned<u32>>,
    given: Option<&Spanned<FileSchedule>>,
) -> Result<(Schedule, u32), Diagnostic> {
    let sessions = sessions.map(|n| bounded(source, n, 1..=SESSIONS_MAX)).transpose()?;
    let needed = || {
        sessions.ok_or_else(|| {
            source
                .error(name.span(), format!("the group `{}` needs `sessions`", name.get_ref()))
                .label("expected like `sessions = 50`")
        })
    };
    let Some(file) = given else {
        let schedule = Schedule::PerSession {
            iterations: 1,
            max: COUNTED_MAX,
        };
        return Ok((schedule, needed()?));
    };
    let schedule = schedule(source, file)?;
    let sessions = match (&schedule, sessions) {
        (Schedule::Ramping { ramp, .. }, None) => ramp.peak().ceil() as u32,
        (Schedule::Ramping { ramp, .. }, Some(n)) if f64::from(n) < ramp.peak() => {
            return Err(source
                .error(
                    file.span(),
                    format!("the stages rise to {} sessions, and the group has {n}", ramp.peak()),
                )
                .label("leave `sessions` out: the stages say how many"));
        }
        (_, _) => needed()?,
    };
    if let Some(n) = schedule.attempts(sessions).filter(|n| !(1..=ATTEMPTS_MAX).contains(n)) {
        return Err(source
            .error(file.span(), format!("{n} attempts in a round"))
            .label(format!("expected 1 to {ATTEMPTS_MAX}")));
    }
    Ok((schedule, sessions))
}

fn schedule(source: &Source, given: &Spanned<FileSchedule>) -> Result<Schedule, Diagnostic> {
    let file = given.get_ref();
    let wrong = |message: &str, label: &str| source.error(given.span(), message).label(label);
    // what a kind has no use for is a misunderstanding
    let uses: &[&str] = match file.kind {
        Kind::PerSession | Kind::Shared => &["iterations", "duration"],
        Kind::Constant => &["duration"],
        Kind::Ramping => &["start", "stages", "ramp_down"],
        Kind::ConstantRate => &["rate", "duration"],
        Kind::RampingRate => &["start", "stages"],
    };
    let has = [
        ("iterations", file.iterations.is_some()),
        ("duration", file.duration.is_some()),
        ("start", file.start.is_some()),
        ("rate", file.rate.is_some()),
        ("stages", file.stages.is_some()),
        ("ramp_down", file.ramp_down.is_some()),
    ];
    if let Some((extra, _)) = has.iter().find(|(name, has)| *has && !uses.contains(name)) {
        let message = format!("this schedule has no use for `{extra}`");
        return Err(wrong(&message, &format!("expected {}", quoted(uses))));
    }
    let ramp = |of: &dyn Fn(&Spanned<toml::Value>) -> Result<f64, Diagnostic>, default: f64| {
        let stages = file.stages.as_deref().filter(|s| !s.is_empty());
        let stages = stages.ok_or_else(|| {
            wrong(
                "this schedule needs `stages`",
                "expected like `stages = [{ duration = \"10s\", target = 50 }]`",
            )
        })?;
        let stage = |stage: &FileStage| {
            Ok(Stage {
                duration: duration_or_zero(source, &Some(stage.duration.clone()))?,
                target: of(&stage.target)?,
            })
        };
        let ramp = Ramp {
            start: file.start.as_ref().map_or(Ok(default), of)?,
            stages: stages.iter().map(stage).collect::<Result<_, Diagnostic>>()?,
        };
        if ramp.duration().is_zero() || ramp.peak() <= 0.0 {
            return Err(wrong(
                "these stages start nothing",
                "expected some time, and a target above 0",
            ));
        }
        Ok(ramp)
    };
    let timed = || {
        let text = file.duration.as_ref();
        duration(
            source,
            text.ok_or_else(|| wrong("this schedule needs `duration`", "expected like `duration = \"10s\"`"))?,
        )
    };
    Ok(match file.kind {
        Kind::PerSession => Schedule::PerSession {
            iterations: file.iterations.unwrap_or(1),
            max: duration_or(source, &file.duration, COUNTED_MAX)?,
        },
        Kind::Shared => Schedule::Shared {
            iterations: file.iterations.ok_or_else(|| {
                wrong(
                    "a shared schedule needs `iterations`",
                    "expected `iterations`: the attempts of all sessions together",
                )
            })?,
            max: duration_or(source, &file.duration, COUNTED_MAX)?,
        },
        Kind::Constant => Schedule::Constant { duration: timed()? },
        Kind::Ramping => Schedule::Ramping {
            ramp: ramp(&|value| count(source, value), 1.0)?,
            ramp_down: match &file.ramp_down {
                None => GRACE,
                given => duration_or_zero(source, given)?,
            },
        },
        Kind::ConstantRate => {
            let text = file.rate.as_ref();
            let text = text.ok_or_else(|| wrong("this schedule needs `rate`", "expected like `rate = \"150/s\"`"))?;
            let rate = rate(source, text)?;
            if rate <= 0.0 {
                return Err(source.error(text.span(), "this rate starts nothing"));
            }
            Schedule::Rate {
                ramp: Ramp::level_for(rate, timed()?),
            }
        }
        Kind::RampingRate => Schedule::Rate {
            ramp: ramp(&|value| rate_value(source, value), 0.0)?,
        },
    })
}

/// A number of sessions.
fn count(source: &Source, value: &Spanned<toml::Value>) -> Result<f64, Diagnostic> {
    match value.get_ref().as_integer() {
        Some(n) if (0..=i64::from(SESSIONS_MAX)).contains(&n) => Ok(n as f64),
        _ => Err(source
            .error(value.span(), "this is no number of sessions")
            .label(format!("expected 0 to {SESSIONS_MAX}"))),
    }
}

fn rate_value(source: &Source, value: &Spanned<toml::Value>) -> Result<f64, Diagnostic> {
    let text = value.get_ref().as_str().unwrap_or("a number").to_string();
    rate(source, &Spanned::new(value.span(), text))
}
