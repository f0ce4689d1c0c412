//! How a statement ended: the one place that classifies SQLSTATEs.

use std::ops::Deref;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::draw::TextRow;
use crate::outcome::Outcome;
use crate::postgres::pool::AcquireError;
use crate::postgres::{Failure, Fields};
use crate::scenario::Refusal;
use crate::source::like;

/// How a statement ended, with what the server said: small where it said nothing, because most say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    outcome: Outcome,
    said: Option<Arc<Said>>,
}

/// What the server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) sqlstate: Option<String>,
    pub(crate) constraint: Option<String>,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    /// PL/pgSQL's call stack, and the tuple that was waited for.
    pub(crate) context: Option<String>,
    /// What else the server said of something unexpected.
    pub(crate) fields: Vec<(&'static str, String)>,
}

static NOTHING: Said = Said {
    sqlstate: None,
    constraint: None,
    message: String::new(),
    detail: None,
    context: None,
    fields: Vec::new(),
};

impl Deref for Ending {
    type Target = Said;

    fn deref(&self) -> &Said {
        self.said.as_deref().unwrap_or(&NOTHING)
    }
}

impl Ending {
    pub(crate) fn accepted() -> Ending {
        Ending {
            outcome: Outcome::Accepted,
            said: None,
        }
    }

    /// A statement that ran: accepted, unless its first row says that it was refused.
    pub(crate) fn of_row(columns: &[String], row: Option<&TextRow>, expected: &[Refusal]) -> Ending {
        let value = |column: &String| Some(row?.get(columns.iter().position(|c| c == column)?)?.as_deref());
        let said = expected.iter().find_map(|refusal| match refusal {
            Refusal::NoRow if row.is_none() => Some("no row".to_string()),
            Refusal::Row(wanted) if wanted.iter().all(|(c, v)| value(c) == Some(Some(v))) => {
                let pairs = wanted.iter().map(|(c, v)| format!("{c} = {v}"));
                Some(pairs.collect::<Vec<_>>().join(", "))
            }
            _ => None,
        });
        match said {
            Some(message) => Ending::local(Outcome::Rejected, message),
            None => Ending::accepted(),
        }
    }

    /// An ending that the server had no part in.
    pub(crate) fn local(outcome: Outcome, message: impl Into<String>) -> Ending {
        let said = Said {
            message: message.into(),
            ..Said::default()
        };
        said.ended(outcome)
    }

    pub(crate) fn of(failure: &Failure, expected: &[Refusal]) -> Ending {
        let fields = match failure {
            Failure::Server(fields) => fields,
            Failure::Lost(why) => return Ending::local(Outcome::InDoubt, why),
            Failure::Unsent(why) => return Ending::local(Outcome::Error, why),
        };
        let owned = |name| fields.get(name).map(String::from);
        let mut said = Said {
            sqlstate: owned(b'C'),
            constraint: owned(b'n'),
            message: fields.message().to_string(),
            detail: owned(b'D'),
            context: owned(b'W'),
            fields: Vec::new(),
        };
        let outcome = if fields.is_fatal() {
            // the server ended the connection while the statement ran
            Outcome::InDoubt
        } else if expected.iter().any(|refusal| said.matches(refusal)) {
            Outcome::Rejected
        } else {
            match SqlState::from_code(fields.sqlstate()) {
                SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => Outcome::Conflict,
                SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => Outcome::Timeout,
                SqlState::TOO_MANY_CONNECTIONS => Outcome::Refused,
                _ => Outcome::Error,
            }
        };
        if outcome == Outcome::Error {
            said.fields = others(fields);
        }
        said.ended(outcome)
    }

    /// No connection.
    pub(crate) fn refused(error: &AcquireError) -> Ending {
        let full = || SqlState::TOO_MANY_CONNECTIONS.code().to_string();
        let said = Said {
            sqlstate: matches!(error, AcquireError::Full(_)).then(full),
            message: error.to_string(),
            ..Said::default()
        };
        said.ended(Outcome::Refused)
    }

    /// A cancel request, or a time limit of the server's.
    pub(crate) fn is_cancel(&self) -> bool {
        self.sqlstate.as_deref() == Some(SqlState::QUERY_CANCELED.code())
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn is_deadlock(&self) -> bool {
        self.sqlstate.as_deref() == Some(SqlState::T_R_DEADLOCK_DETECTED.code())
    }
}

impl Said {
    fn ended(self, outcome: Outcome) -> Ending {
        Ending {
            outcome,
            said: Some(Arc::new(self)),
        }
    }

    fn matches(&self, refusal: &Refusal) -> bool {
        let Refusal::Error {
            sqlstate,
            constraint,
            message,
        } = refusal
        else {
            return false;
        };
        let same = |wanted: &Option<String>, got: &Option<String>| wanted.is_none() || wanted == got;
        same(sqlstate, &self.sqlstate)
            && same(constraint, &self.constraint)
            && message.as_ref().is_none_or(|pattern| like(pattern, &self.message))
    }
}

/// Everything that PostgreSQL says of an error, beside its SQLSTATE, message, detail, context and constraint.
fn others(fields: &Fields) -> Vec<(&'static str, String)> {
    let owned = |name| fields.get(name).map(String::from);
    // inside a function, the position is one of the statement there
    let internal = || Some(format!("{} of: {}", fields.get(b'p')?, fields.get(b'q')?));
    [
        ("severity", owned(b'S')),
        ("hint", owned(b'H')),
        ("position", owned(b'P').or_else(internal)),
        ("schema", owned(b's')),
        ("table", owned(b't')),
        ("column", owned(b'c')),
        ("datatype", owned(b'd')),
        ("file", owned(b'F')),
        ("line", owned(b'L')),
        ("routine", owned(b'R')),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_refusal_says_must_match() {
        let ending = Said {
            sqlstate: Some("23505".into()),
            constraint: Some("one_booking".into()),
            message: "duplicate key".into(),
            ..Said::default()
        };
        let refusal = |sqlstate: Option<&str>, constraint: Option<&str>| Refusal::Error {
            sqlstate: sqlstate.map(String::from),
            constraint: constraint.map(String::from),
            message: None,
        };
        assert!(ending.matches(&refusal(Some("23505"), None)));
        assert!(ending.matches(&refusal(None, Some("one_booking"))));
        assert!(!ending.matches(&refusal(Some("23505"), Some("another"))));
    }

    #[test]
    fn a_row_may_be_a_refusal() {
        let columns = ["ok".to_string(), "why".to_string()];
        let refused = Refusal::Row(vec![("ok".into(), "f".into())]);
        let outcome = |row: Option<[Option<&str>; 2]>, expected: &[Refusal]| {
            let row = row.map(|r| r.map(|v| v.map(String::from)).to_vec());
            Ending::of_row(&columns, row.as_ref(), expected).outcome()
        };
        let both = [refused, Refusal::NoRow];
        assert_eq!(outcome(Some([Some("f"), None]), &both), Outcome::Rejected);
        assert_eq!(outcome(Some([Some("t"), None]), &both), Outcome::Accepted);
        assert_eq!(outcome(Some([None, Some("f")]), &both), Outcome::Accepted);
        assert_eq!(outcome(None, &both), Outcome::Rejected);
        assert_eq!(outcome(None, &both[..1]), Outcome::Accepted);
    }
}
