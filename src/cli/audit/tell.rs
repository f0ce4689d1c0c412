//! Who is told what: stdout, the heartbeat, the webhook.

use clap::{Args, ValueEnum};
use tokio::task::JoinHandle;

use crate::audit::notify::{self, Address, Message};
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::report::Report;
use crate::verify::Decision;

/// When there is something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NotifyOn {
    /// Something is new, back, fixed or differently decided, or the run failed otherwise than the one before
    Change,
    /// The exit code is not 0
    Violation,
    /// Always
    Always,
    /// Never: the exit code and the heartbeat tell
    Never,
}

#[derive(Args, Debug)]
pub(super) struct Tell {
    /// When to write the report to stdout and to call the webhook; otherwise both stay silent, so that cron sends no mail
    /// [default: always for the report, change for the webhook]
    #[arg(long, value_enum, value_name = "WHEN")]
    notify_on: Option<NotifyOn>,
    /// Heartbeat: posts to URL/start at the beginning and to URL/EXIT-CODE at the end
    #[arg(long, value_name = "URL", env = "DB_RACE_PING_URL", hide_env_values = true)]
    ping_url: Option<Given>,
    /// Posts what changed as JSON, with a `text` as chat services take it
    #[arg(long, value_name = "URL", env = "DB_RACE_WEBHOOK", hide_env_values = true)]
    webhook: Option<Given>,
}

/// An address as it was given. clap would repeat a wrong one, so it is read later.
#[derive(Clone)]
struct Given(String);

impl From<String> for Given {
    fn from(text: String) -> Given {
        Given(text)
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("...")
    }
}

/// Who is told.
#[derive(Clone)]
pub(super) struct Receivers {
    ping: Option<Address>,
    webhook: Option<Address>,
}

/// How a run ended.
pub(super) struct Ended {
    pub(super) code: u8,
    /// Whether there is anything that the runs before didn't tell.
    pub(super) changed: bool,
    pub(super) report: Option<Report>,
    pub(super) failure: Option<Failure>,
}

impl Ended {
    pub(super) fn failed(failure: Failure, is_news: bool) -> Ended {
        Ended {
            code: failure.code,
            changed: is_news,
            report: None,
            failure: Some(failure),
        }
    }
}

/// What is told of a run beside how it ended.
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    pub(super) databases: Vec<String>,
    pub(super) started_at: String,
    pub(super) duration_ms: u64,
}

impl Tell {
    /// Whether stdout and stderr say anything of the run.
    pub(super) fn is_shown(&self, ended: &Ended) -> bool {
        // who typed something wrong is told, whatever else is to be told
        ended.code == exit::USAGE || is_due(self.notify_on.unwrap_or(NotifyOn::Always), ended)
    }

    /// The addresses that were given; empty ones are none.
    pub(super) fn receivers(&self) -> Result<Receivers, Failure> {
        let address = |given: &Option<Given>, flag: &str| {
            let given = given.as_ref().filter(|given| !given.0.is_empty());
            let read = given.map(|given| Address::parse(&given.0)).transpose();
            read.map_err(|expected| Failure::new(exit::USAGE, format!("{flag} is wrong: {expected}")))
        };
        Ok(Receivers {
            ping: address(&self.ping_url, "--ping-url (or DB_RACE_PING_URL)")?,
            webhook: address(&self.webhook, "--webhook (or DB_RACE_WEBHOOK)")?,
        })
    }

    /// Tells the heartbeat that the run begins, beside the run.
    pub(super) fn start(to: &Receivers) -> JoinHandle<()> {
        let address = to.ping.clone();
        tokio::spawn(async move {
            if let Some(address) = address {
                warn("ping", notify::ping_start(&address).await);
            }
        })
    }

    /// Tells the heartbeat and the webhook how the run ended.
    pub(super) async fn end(&self, to: &Receivers, about: About<'_>, ended: &Ended) {
        let report = ended.report.as_ref();
        let undecided = report.map(|report| report.checks.iter().filter(|c| c.decision == Decision::CouldNotDecide));
        let undecided = undecided.into_iter().flatten();
        let reason = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "no reason given".into());
        let mut problems: Vec<String> = ended.failure.iter().map(ToString::to_string).collect();
        problems.extend(undecided.map(|check| format!("{} could not be decided: {}", check.id, reason(&check.reason))));
        // where every check was skipped, the verdict says so
        let has_none = |report: &&Report| report.checks.iter().all(|check| check.decision == Decision::Skipped);
        problems.extend(
            report
                .filter(has_none)
                .into_iter()
                .flat_map(|r| r.verdict.reasons.clone()),
        );
        let gone = report.and_then(|report| report.audit.as_ref()).map(|audit| &audit.gone);
        let gone = gone.into_iter().flatten().filter(|gone| gone.is_news);
        problems.extend(gone.map(|gone| {
            let (check, open) = (&gone.subject.check, gone.open);
            format!("{check} is no longer in the suite; of its findings {open} are open: `db-race audit retire {check}` closes them")
        }));
        let message = Message {
            name: about.name,
            exit_code: ended.code,
            outcome: report.map(|report| report.verdict.outcome),
            databases: about.databases,
            started_at: about.started_at,
            duration_ms: about.duration_ms,
            audit: report.and_then(|report| report.audit.as_ref()),
            problems,
        };
        let ping = async {
            if let Some(address) = &to.ping {
                warn(
                    "ping",
                    notify::ping_end(address, ended.code, &notify::summary(&message)).await,
                );
            }
        };
        let webhook = async {
            if let Some(address) = &to.webhook
                && is_due(self.notify_on.unwrap_or(NotifyOn::Change), ended)
            {
                warn("webhook", notify::webhook(address, notify::body(&message)).await);
            }
        };
        tokio::join!(ping, webhook);
    }
}

fn is_due(when: NotifyOn, ended: &Ended) -> bool {
    match when {
        NotifyOn::Change => ended.changed,
        NotifyOn::Violation => ended.code != exit::HELD,
        NotifyOn::Always => true,
        NotifyOn::Never => false,
    }
}

fn warn(what: &str, told: Result<(), String>) {
    if let Err(why) = told {
        output::note(&format!("warning: the {what} was not delivered: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_for_what_is_known() {
        let ended = |code, changed| Ended {
            code,
            changed,
            report: None,
            failure: None,
        };
        for (when, code, changed, due) in [
            (NotifyOn::Change, 2, false, false),
            (NotifyOn::Change, 0, true, true),
            (NotifyOn::Violation, 2, false, true),
            (NotifyOn::Violation, 0, true, false),
            (NotifyOn::Always, 0, false, true),
            (NotifyOn::Never, 2, true, false),
        ] {
            assert_eq!(is_due(when, &ended(code, changed)), due, "{when:?} {code} {changed}");
        }
    }
}
