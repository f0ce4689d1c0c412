//! How a run is done.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a run of checks is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers of each database, each with a connection of its own.
    pub jobs: usize,
    /// After this a check is cancelled, and could not be decided; where its own header doesn't say.
    pub timeout: Duration,
    /// Findings kept for reports, of each check; none: as the check says, or [`SAMPLE`].
    pub sample: Option<usize>,
    /// Whether the key of each row that is counted is kept.
    pub keep_keys: bool,
    /// After this a snapshot is given up, so that vacuum gets on; what is not decided by then could not be.
    pub snapshot_age_max: Duration,
    /// Whether the snapshot is one that a serial order of the `SERIALIZABLE` transactions could show.
    pub deferrable: bool,
    /// Override the checks' parameters.
    pub params: BTreeMap<String, String>,
    /// Whether nobody is writing any more: then grace, confirmation and the refusal of superusers don't apply. After a race a young row is
    /// no less wrong than an old one, and the role has written already.
    pub settled: bool,
    /// Whether a role is accepted that could do more than read, `READ ONLY` or not.
    pub allow_superuser: bool,
}

/// Findings kept for reports, where nobody says.
pub const SAMPLE: usize = 5;

impl Default for Options {
    fn default() -> Self {
        Options {
            jobs: 2,
            timeout: Duration::from_secs(30),
            sample: None,
            keep_keys: false,
            snapshot_age_max: Duration::from_secs(600),
            deferrable: false,
            params: BTreeMap::new(),
            settled: false,
            allow_superuser: false,
        }
    }
}
