//! How servers are reached, by command: TLS, services, passwords, several hosts, poolers, each with real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod certificates;
mod files;
mod hosts;
mod poolers;
mod secrets;
mod site;
mod sockets;
mod tls;
mod whereabouts;
