//! An address that is a secret.

use std::fmt;

/// An `http` or `https` URL. Shown, it is its host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none; the message doesn't repeat it.
    pub fn parse(url: &str) -> Result<Address, String> {
        let is_plain = |c: char| c.is_ascii_graphic();
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        match rest.map(host) {
            Some(host) if !host.is_empty() && url.chars().all(is_plain) => Ok(Address(url.into())),
            _ => Err("expected an address like https://host/path".into()),
        }
    }

    /// All of it.
    pub(super) fn url(&self) -> String {
        self.0.clone()
    }

    /// With another segment at the end of its path.
    pub(super) fn with(&self, segment: &str) -> String {
        let (rest, fragment) = self.0.split_once('#').unwrap_or((&self.0, ""));
        debug_assert!(fragment.len() < self.0.len());
        match rest.split_once('?') {
            Some((path, query)) => format!("{}/{segment}?{query}", path.trim_end_matches('/')),
            None => format!("{}/{segment}", rest.trim_end_matches('/')),
        }
    }
}

/// Without user and password.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        write!(f, "{scheme}://{}/...", host(rest))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_before_the_query_and_nothing_secret_is_shown() {
        let of = |url: &str| Address::parse(url).unwrap();
        assert_eq!(
            of("https://hc.example/abc").with("start"),
            "https://hc.example/abc/start"
        );
        assert_eq!(
            of("https://hc.example/abc/?create=1#x").with("0"),
            "https://hc.example/abc/0?create=1"
        );
        let secret = of("http://me:geheim@hc.example:80/abc?token=geheim");
        assert_eq!(
            format!("{secret} {secret:?}"),
            "http://hc.example:80/... http://hc.example:80/..."
        );
        for wrong in [
            "",
            "hc.example/abc",
            "ftp://host/",
            "https://",
            "https://a b/",
            "https:///geheim",
        ] {
            assert!(!Address::parse(wrong).unwrap_err().contains("geheim"), "{wrong}");
        }
    }
}
