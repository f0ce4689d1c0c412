//! Exit codes, one table for every command.

use std::fmt;

use crate::audit::overlap::OverlapError;
use crate::audit::store::StoreError;
use crate::contend::ContendError;
use crate::place::PlaceError;
use crate::postgres::ConnectError;
use crate::scenario::ScenarioError;
use crate::source::FileError;
use crate::verdict::Judged;
use crate::verify::VerifyError;

/// All that was asked for holds.
pub const HELD: u8 = 0;
/// Only checks of severity `warn` found something.
pub const WARNED: u8 = 1;
/// A check, a rule or a threshold was broken.
pub const VIOLATED: u8 = 2;
/// Nothing was broken, but not all could be decided.
pub const INCONCLUSIVE: u8 = 3;
/// The command line or a file is wrong (sysexits.h: EX_USAGE).
pub const USAGE: u8 = 64;
/// The database can't be reached (sysexits.h: EX_UNAVAILABLE).
pub const UNREACHABLE: u8 = 69;
/// All held, or warnings only, and a report could not be written (sysexits.h: EX_CANTCREAT).
pub const CANNOT_WRITE: u8 = 73;
/// Stopped by SIGINT or SIGTERM.
pub const INTERRUPTED: u8 = 130;

/// The table, for `--help`.
pub const TABLE: &str = "\
Exit codes:
    0  held
    1  warnings only
    2  violated: a check, a winner rule or a threshold
    3  inconclusive: no data, no contention, a check that could not be decided, a run cut short
   64  wrong usage, or a bad file
   69  the database cannot be reached
   73  held or warnings only, but a report could not be written
  130  interrupted; what was seen until then is still reported";

/// The exit code of a verdict.
pub fn of(outcome: Judged, interrupted: bool) -> u8 {
    match outcome {
        _ if interrupted => INTERRUPTED,
        Judged::Passed => HELD,
        Judged::Warned => WARNED,
        Judged::Failed => VIOLATED,
        Judged::Inconclusive => INCONCLUSIVE,
        Judged::Interrupted => INTERRUPTED,
    }
}

/// An error on its way out, with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
    /// Whether nobody is told but by the code.
    is_silent: bool,
}

impl Failure {
    /// A failure with the given code.
    pub fn new(code: u8, message: impl fmt::Display) -> Failure {
        Failure {
            code,
            message: message.to_string(),
            is_silent: false,
        }
    }

    /// The same, of which only the code is told.
    #[must_use]
    pub fn silent(self) -> Failure {
        Failure {
            is_silent: true,
            ..self
        }
    }

    /// Whether the message is for nobody.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Failure::new(USAGE, error)
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        Failure::new(USAGE, error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Settings(_) => USAGE,
            ConnectError::Connect { .. } => UNREACHABLE,
        };
        Failure::new(code, error)
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let code = match error {
            PlaceError::File(_) | PlaceError::NoDatabase(_) | PlaceError::Refused { .. } => USAGE,
            PlaceError::Interrupted => INTERRUPTED,
            _ => UNREACHABLE,
        };
        Failure::new(code, error)
    }
}

impl From<ContendError> for Failure {
    fn from(error: ContendError) -> Self {
        match error {
            ContendError::Scenario(error) => error.into(),
            ContendError::Connect(error) => error.into(),
            other => Failure::new(UNREACHABLE, other),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Connect(error) => error.into(),
            VerifyError::Refused { .. } => Failure::new(USAGE, error),
            VerifyError::Snapshot { .. } => Failure::new(UNREACHABLE, error),
        }
    }
}

impl From<OverlapError> for Failure {
    fn from(error: OverlapError) -> Self {
        match error {
            OverlapError::Connect(error) => error.into(),
            OverlapError::Busy(_) => Failure::new(INCONCLUSIVE, error),
            OverlapError::Failed { .. } => Failure::new(UNREACHABLE, error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Connect(ConnectError::Connect { .. }) => Failure::new(UNREACHABLE, error),
            StoreError::Busy(_) | StoreError::Overtaken(_) => Failure::new(INCONCLUSIVE, error),
            StoreError::Failed { .. } => Failure::new(UNREACHABLE, error),
            _ => Failure::new(USAGE, error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(UNREACHABLE, format!("cannot write the report: {error}"))
    }
}
