//! A password, kept out of messages.

use std::fmt;

/// A password. `{:?}` doesn't show it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::postgres) struct Secret(String);

impl Secret {
    pub(in crate::postgres) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(in crate::postgres) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
