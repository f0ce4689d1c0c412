//! What the benches share.

#![allow(
    unreachable_pub,
    reason = "the lint takes a shared module of benches for a private one"
)]

use std::path::Path;
use std::process::Command;

/// The pgbench of a server, or the first in PATH.
pub fn pgbench(bin_dir: &Path) -> Command {
    let beside = bin_dir.join("pgbench");
    Command::new(if beside.exists() { beside } else { "pgbench".into() })
}
