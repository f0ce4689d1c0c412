//! What is seen from outside while sessions race.
//!
//! The `Sampler` asks the server, `LockWatch` keeps what it was told; who waits for whom is read from each sample
//! (`graph`). A cycle is looked into while it stands (`rows`, `sighting`), because the server shows its rows only then. After
//! the round, the waits are summed up (`lock_waits`), and each deadlock is put together (`deadlock`, `explain`, `mistake`).

mod activity;
mod contention;
mod deadlock;
mod explain;
mod graph;
mod lock_waits;
mod locks;
mod mistake;
mod pool;
mod rows;
mod sampler;
mod sighting;
mod timeline;
mod wait;
mod words;

pub(crate) use contention::Meetings;
pub use deadlock::{Deadlock, Held, Member};
pub(crate) use explain::Evidence;
pub use lock_waits::{Holder, LockWaits};
pub(crate) use locks::LockWatch;
pub use mistake::Mistake;
pub(crate) use pool::{Doing, Holder as PoolHolder, Holding, Named, PoolNow, PoolSeen, backends};
pub(crate) use sampler::Sampler;
pub(crate) use timeline::{Stretch, Timeline};
