//! Finds concurrency bugs in PostgreSQL stored procedures, and proves that the data is still right afterwards.
//!
//! A race is arranged, not hoped for: sessions are held at a gate until all of them have read what they decide by, and
//! write at once. The parts, in the way of the data:
//!
//! ```text
//! scenario file -> scenario::Plan -> contend (with watch, verify) -> report::Race -> verdict::Verdict -> report writers
//! ```
//!
//! From a test of your own:
//!
//! ```
//! use db_race::{contend, place::Place, scenario, stop::Stop, verdict};
//!
//! # async fn race() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = scenario::load("last-room", &scenario::Overrides::default())?;
//! let stop = Stop::default();
//! let place = Place::of(&plan, None, &Default::default(), &stop).await?;
//! let (race, _server) = contend::run(&plan, &place.target, &stop, &mut |_| {}).await?;
//! place.leave().await?;
//! let verdict = verdict::judge(&plan.rules, &race);
//! assert_eq!(verdict.outcome, verdict::Judged::Passed, "{:?}", verdict.reasons);
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(race()).unwrap();
//! ```
//!
//! - [`scenario`]: the file a user writes, checked.
//! - [`place`]: where a run takes place: a throwaway server ([`postgres::server`]) or a server of the user's.
//! - [`contend`]: the race itself.
//! - [`verify`]: checks, all on one snapshot.
//! - [`audit`]: checks with a memory.
//! - [`sweep`]: a scenario at several sizes.
//! - [`verdict`]: what it comes to. [`report`]: what people and programs get to see.

pub mod audit;
pub mod bundled;
pub mod cli;
pub mod contend;
pub mod outcome;
pub mod place;
pub mod postgres;
pub mod report;
pub mod scenario;
pub mod source;
pub mod stop;
pub mod sweep;
pub mod system;
pub mod verdict;
pub mod verify;
pub mod watch;
