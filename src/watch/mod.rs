//! What is seen from outside while sessions race.

mod contention;
mod deadlock;
mod locks;
mod pool;

pub(crate) use contention::Meetings;
pub use deadlock::{Deadlock, Member};
pub use locks::LockWaits;
pub(crate) use locks::{LockWatch, Sampler};
pub(crate) use pool::{Doing, Holder, Holding, Named, PoolNow, PoolSeen, backends};
