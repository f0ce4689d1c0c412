//! How a server is reached, and what it says.

mod connect;
mod connector;
mod direct;
mod facts;
mod interrupt;
mod notices;
pub mod pool;
pub mod server;
mod socket;
mod text;

pub use connect::{ConnectError, Connection, Target, explain, lost};
pub use direct::{Failure, Fields, TextRow};
pub use facts::{ServerFacts, facts};
pub(crate) use facts::{deadlocks, deadlocks_since, free_connections};
pub(crate) use interrupt::{Cancel, interruptible};
pub use notices::{Notices, Slow};
pub use text::{Text, read_text, readable};
