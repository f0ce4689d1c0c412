//! What a server says of an error, or aside.

use std::fmt;

use crate::postgres::{explain, lost};

/// The fields of an error or a notice (PostgreSQL documentation, "Error and Notice Message Fields").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(u8, String)>);

/// Why a statement was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server says why.
    Server(Fields),
    /// The connection is gone, so that nobody knows what became of the statement.
    Lost(String),
    /// Nothing was sent.
    Unsent(String),
}

impl Fields {
    /// From the body of an `ErrorResponse` or a `NoticeResponse`.
    pub(super) fn parse(body: &[u8]) -> Fields {
        let fields = body.split(|byte| *byte == 0).filter_map(|field| {
            let (name, value) = field.split_first()?;
            Some((*name, String::from_utf8_lossy(value).into_owned()))
        });
        Fields(fields.collect())
    }

    /// The field of that name, a letter of the protocol's.
    pub fn get(&self, name: u8) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| *n == name)?;
        Some(value)
    }

    /// The SQLSTATE.
    pub fn sqlstate(&self) -> &str {
        self.get(b'C').unwrap_or_default()
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.get(b'M').unwrap_or_default()
    }

    /// The functions and statements around it, innermost first.
    pub fn context(&self) -> Option<&str> {
        self.get(b'W')
    }

    /// Whether the server ends the connection with it.
    pub fn is_fatal(&self) -> bool {
        // not translated, since 9.6
        matches!(self.get(b'V'), Some("FATAL" | "PANIC"))
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message(), self.sqlstate())?;
        for extra in [self.get(b'D'), self.get(b'H')].into_iter().flatten() {
            write!(f, "; {extra}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(fields) => fields.fmt(f),
            Failure::Lost(why) | Failure::Unsent(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl From<&tokio_postgres::Error> for Failure {
    fn from(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let why = explain(error);
            return match lost(error) {
                true => Failure::Lost(why),
                false => Failure::Unsent(why),
            };
        };
        let owned = |text: Option<&str>| text.map(String::from);
        let fields = [
            (b'S', owned(Some(db.severity()))),
            (b'C', owned(Some(db.code().code()))),
            (b'M', owned(Some(db.message()))),
            (b'D', owned(db.detail())),
            (b'H', owned(db.hint())),
            (b'W', owned(db.where_())),
            (b'n', owned(db.constraint())),
        ];
        let said = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Failure::Server(Fields(said.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_an_error() {
        let fields = Fields::parse(b"SERROR\0VERROR\0C40P01\0Mdeadlock detected\0DProcess 1 waits\0\0");
        assert_eq!((fields.sqlstate(), fields.is_fatal()), ("40P01", false));
        assert_eq!(
            fields.to_string(),
            "deadlock detected (SQLSTATE 40P01); Process 1 waits"
        );
        assert_eq!(fields.context(), None);
        assert!(Fields::parse(b"SFATAL\0VFATAL\0C57P01\0\0").is_fatal());
        assert_eq!(Fields::parse(b"").message(), "");
    }
}
