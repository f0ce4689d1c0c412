//! How a server is reached, and what it says.

mod auth;
mod connect;
mod dial;
mod direct;
mod facts;
mod interrupt;
mod notices;
pub mod pool;
mod pooling;
mod reach;
pub mod server;
mod settings;
mod simple;
mod slow;
mod socket;
mod text;
mod tls;
mod wire;

pub use connect::{ConnectError, Connection, Target, explain, lost};
pub use direct::{Bound, Failure, Fields, TextRow};
pub use facts::{ServerFacts, facts};
pub(crate) use facts::{deadlocks, deadlocks_since, free_connections};
pub(crate) use interrupt::{Cancel, interruptible};
pub use notices::Notices;
pub(crate) use pooling::{Lending, lending, room};
pub use settings::{Asked, is_connection_string, variable_naming_a_place};
pub use slow::Slow;
pub use text::{Text, read_text, readable};
