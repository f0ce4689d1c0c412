//! Checks with a memory: what is new, what is still open, what was fixed.
//!
//! [`diff`] decides that and [`mod@compare`] puts it together with waivers; both are pure. [`store`] remembers, [`overlap`] keeps a second run
//! out, [`notify`] tells others.

pub mod compare;
pub mod diff;
mod fingerprint;
pub mod history;
mod moment;
pub mod notify;
pub mod overlap;
mod result;
pub mod store;
mod story;
mod waivers;

pub use compare::{Comparison, LastFailure, Memory, Remembered, compare, database_name, place_name};
pub use diff::{Closed, Key, Known, Subject};
pub use fingerprint::fingerprint;
pub use moment::{Moment, age};
pub use result::{AuditCheck, AuditCounts, AuditFinding, AuditResult, Gone};
pub use story::{Event, Happened, Kept, Retired, Row, Shown, ShownFinding, Story, show};
pub use waivers::{Checks, Waiver, Waivers};
