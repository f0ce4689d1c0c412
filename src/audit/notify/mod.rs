//! Telling others: the heartbeat of a health-check service, and a webhook.
//!
//! The addresses are secrets, because who knows one can post to it: they are in no message, no memory and no report. Nothing here changes
//! what a run comes to, and everything ends within seconds (`TOTAL_MAX`).

mod address;
mod message;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

pub use address::Address;
pub use message::{Message, body, summary};

/// How long one address may take, repetitions included.
const TOTAL_MAX: Duration = Duration::from_secs(10);
/// How long one try may take.
const TRY_MAX: Duration = Duration::from_secs(4);
/// Before the second try; twice as long before each other one.
const PAUSE: Duration = Duration::from_millis(500);
/// What health-check services keep of a text.
const LOG_MAX: usize = 10_000;

/// Tells that a run begins.
///
/// # Errors
/// Why it could not be told, for a warning.
pub async fn ping_start(address: &Address) -> Result<(), String> {
    post(
        address,
        address.with("start"),
        "text/plain; charset=utf-8",
        String::new(),
    )
    .await
}

/// Tells with which code a run ended, and what it says.
///
/// # Errors
/// Why it could not be told, for a warning.
pub async fn ping_end(address: &Address, exit_code: u8, text: &str) -> Result<(), String> {
    let url = address.with(&exit_code.to_string());
    post(address, url, "text/plain; charset=utf-8", beginning(text, LOG_MAX)).await
}

/// Posts a JSON document.
///
/// # Errors
/// Why it could not be posted, for a warning.
pub async fn webhook(address: &Address, body: String) -> Result<(), String> {
    post(address, address.url(), "application/json", body).await
}

async fn post(address: &Address, url: String, content_type: &'static str, body: String) -> Result<(), String> {
    let shown = address.to_string();
    let posted = tokio::task::spawn_blocking(move || post_until(&url, content_type, &body)).await;
    let why = match posted {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => why,
        Err(_) => "it could not be sent".into(),
    };
    Err(format!("{shown}: {why}"))
}

/// Tries until it is taken, refused for good, or [`TOTAL_MAX`] is over.
fn post_until(url: &str, content_type: &str, body: &str) -> Result<(), String> {
    let deadline = Instant::now() + TOTAL_MAX;
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let why = match post_once(url, content_type, body, TRY_MAX.min(left)) {
            Ok(()) => return Ok(()),
            Err(Refusal::ForGood(why)) => return Err(why),
            Err(Refusal::ForNow(why)) => why,
        };
        if Instant::now() + pause >= deadline {
            return Err(format!(
                "{why} (tried {tries} {})",
                if tries == 1 { "time" } else { "times" }
            ));
        }
        thread::sleep(pause);
        pause *= 2;
        tries += 1;
    }
}

enum Refusal {
    ForNow(String),
    ForGood(String),
}

fn post_once(url: &str, content_type: &str, body: &str, at_most: Duration) -> Result<(), Refusal> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(at_most))
        .user_agent(concat!("db-race/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(tls());
    }
    let agent = config.build().new_agent();
    match agent.post(url).content_type(content_type).send(body) {
        Ok(response) => match response.status().as_u16() {
            200..300 => Ok(()),
            code @ (408 | 429 | 500..) => Err(Refusal::ForNow(format!("it answered {code}"))),
            code => Err(Refusal::ForGood(format!("it answered {code}"))),
        },
        Err(ureq::Error::Rustls(error)) => Err(Refusal::ForGood(error.to_string())),
        // a certificate that is refused comes this way
        Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Refusal::ForGood(error.to_string()))
        }
        Err(error) => Err(Refusal::ForNow(match error {
            // its own text may have the address in it
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address is wrong".into(),
            ureq::Error::Timeout(_) => format!("no answer within {} s", at_most.as_secs_f32().ceil()),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "the host is not known".into(),
            ureq::Error::ConnectionFailed => "there is no connection".into(),
            _ => "it could not be sent".into(),
        })),
    }
}

/// The machine's certificates, and ring, as for connections to servers.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = found
        .iter()
        .map(|c| ureq::tls::Certificate::from_der(c).to_owned())
        .collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// At most so many bytes from the beginning, whole lines.
fn beginning(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.into();
    }
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        if kept.len() + line.len() > bytes_max {
            break;
        }
        kept.push_str(line);
    }
    kept.push_str("...\n");
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_behind_a_line() {
        assert_eq!(beginning("one\ntwo\n", 100), "one\ntwo\n");
        assert_eq!(beginning("one\ntwo\n", 5), "one\n...\n");
    }
}
