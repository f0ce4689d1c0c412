//! Reports of every kind, as somebody else's parsers understand them.
//!
//! The values are those of a hostile column; what each parser reads must be what PostgreSQL has stored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what is wrong by failing"
)]

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod files;
mod flags;
mod github;
mod page;
mod parsers;
mod race;
mod verify;
