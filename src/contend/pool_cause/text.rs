//! The causes in sentences: what was seen, with figures, and what to do.

use std::time::Duration;

use super::Figures;
use crate::watch::Holding;

/// So many of the pool's connections, on average.
fn of_size(of: &Figures<'_>, share: f64) -> String {
    let n = (share * f64::from(of.size)).round().clamp(1.0, f64::from(of.size));
    format!("{n} of {}", of.size)
}

pub(super) fn convoy(of: &Figures<'_>, share: f64) -> String {
    let table = match of.seen.tables().first() {
        Some((table, part)) if *part >= 0.5 => format!(" on {table}"),
        _ => String::new(),
    };
    let mut holder = match of.seen.whom(Holding::Convoy).first() {
        Some((whom, part)) if *part >= 0.5 => format!(", mostly held by {whom}"),
        Some((whom, _)) => format!(", held by {whom} and others"),
        None => String::new(),
    };
    if let Some((session, part)) = of.seen.heads().first() {
        holder.push_str(&format!(" (longest by {session}: {:.0}% of that time)", part * 100.0));
    }
    format!(
        "convoy behind a lock: while the pool was dry, {} connections on average stood in a queue for a lock{table}{holder}. \
         A larger pool makes the queue longer, not faster: shorten the time from taking that lock to the commit.",
        of_size(of, share)
    )
}

pub(super) fn idle(of: &Figures<'_>, share: f64, holding: Holding) -> String {
    let (what, advice) = match holding {
        Holding::IdleInTransaction => (
            "held while idle in transaction: while the pool was dry, {N} connections on average had a transaction open and \
             nothing to do",
            "Do what takes long outside the transaction",
        ),
        _ => (
            "held while idle: while the pool was dry, {N} connections on average were on loan with no transaction and nothing to do",
            "Give the connection back as soon as the attempt is over",
        ),
    };
    let whom = match of.seen.whom(holding).first() {
        Some((whom, _)) => format!(", mostly of {whom}"),
        None => String::new(),
    };
    let without = match held(of) {
        Some(held) => {
            let idle = held.mul_f64(share.min(1.0));
            format!(
                ". A connection is held for {} on average, {} of it idle; {}; without the idle time {} of {} would do",
                ms(held),
                ms(idle),
                needs(of, held),
                needed(of, held.saturating_sub(idle)).min(of.size),
                of.size
            )
        }
        None => String::new(),
    };
    format!("{}{whom}{without}. {advice}.", what.replace("{N}", &of_size(of, share)))
}

pub(super) fn leaked(of: &Figures<'_>, share: f64) -> String {
    let whom: Vec<&str> = of.seen.whom(Holding::Leaked).iter().map(|(whom, _)| *whom).collect();
    format!(
        "leaked: while the pool was dry, {} connections on average had been given up by their sessions ({}) and never came back. \
         A larger pool only runs dry later: give the connection back however the attempt ends.",
        of_size(of, share),
        whom.join(", ")
    )
}

pub(super) fn nested(of: &Figures<'_>) -> String {
    let whom = match of.seen.whom(Holding::Nested).first() {
        Some((whom, _)) => format!(" ({whom})"),
        None => String::new(),
    };
    format!(
        "nested acquire, a deadlock of the pool with itself: sessions that held a connection waited for a second one of the \
         same pool{whom}, and nobody gave one back before the limit of {}. The server sees none of it. Use one connection for both, \
         or make the pool larger than the sessions that ask twice: {} of them need {}, so that one can always go on.",
        humantime::format_duration(of.wait),
        of.nesting,
        of.nesting + 1
    )
}

pub(super) fn too_small(of: &Figures<'_>) -> String {
    let doing = match of.seen.whom(Holding::Working).first() {
        Some((whom, _)) if !whom.is_empty() => format!(", mostly of {whom}"),
        _ => String::new(),
    };
    let figures = match held(of) {
        Some(held) => format!(
            "{} {} held for {} on average; {}",
            of.size,
            if of.size == 1 {
                "connection is"
            } else {
                "connections are"
            },
            ms(held),
            needs(of, held)
        ),
        None => format!("all {} were in use", of.size),
    };
    format!(
        "too small for the rate: while the pool was dry, its connections were at work and waited for no lock{doing}. {figures}. \
         Make the pool larger, if the server has the power for it, or the statements faster."
    )
}

pub(super) fn server_full(of: &Figures<'_>) -> String {
    let said = of
        .said
        .as_ref()
        .map(|said| format!(" (\"{said}\")"))
        .unwrap_or_default();
    format!(
        "server full: {} new {} refused with 53300{said} when the pool wanted to grow to {}. Make the pools of all \
         applications together smaller than max_connections, or than the limit of the role or database.",
        of.server_full,
        if of.server_full == 1 {
            "connection was"
        } else {
            "connections were"
        },
        of.size
    )
}

pub(super) fn connect_trouble(of: &Figures<'_>) -> String {
    let mut parts = Vec::new();
    if of.create_timeouts > 0 {
        parts.push(format!(
            "{} new connections were not ready within the pool's create limit of {}",
            of.create_timeouts,
            humantime::format_duration(of.create)
        ));
    }
    if of.connect_errors > 0 {
        let said = of
            .said
            .as_ref()
            .map(|said| format!(" (\"{said}\")"))
            .unwrap_or_default();
        parts.push(format!("{} new connections failed{said}", of.connect_errors));
    }
    if parts.is_empty() {
        parts.push(format!(
            "{} attempts gave up while their connections were still being made",
            of.timeouts
        ));
    }
    format!(
        "connect trouble: {}. The pool had room; look at what a login waits for: the network, the authentication, \
         locks on the catalogs that every login reads. Connections that are open before the rush need no login.",
        parts.join(", and ")
    )
}

/// How long a connection is on loan, on average.
fn held(of: &Figures<'_>) -> Option<Duration> {
    let held = of.seen.lent / of.lent as f64;
    (of.lent > 0 && held.is_finite()).then(|| Duration::from_secs_f64(held))
}

/// Little's law: what is in use at once is what comes in a second, times how long it stays.
fn needed(of: &Figures<'_>, held: Duration) -> u32 {
    ((of.per_second * held.as_secs_f64()).ceil() as u32).max(1)
}

fn needs(of: &Figures<'_>, held: Duration) -> String {
    if of.is_open {
        return format!(
            "at {:.0} attempts a second that needs {}",
            of.per_second,
            needed(of, held)
        );
    }
    let waiting = of.seen.waited / of.seen.dry.as_secs_f64().max(f64::MIN_POSITIVE);
    format!(
        "at {:.0} attempts a second all are in use, with {waiting:.0} sessions waiting on average while it was dry",
        of.per_second
    )
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}
