//! The data directory of a new server: a copy of the template, or what `initdb` makes.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::account::Account;
use super::binaries::Binaries;
use super::run_dir::RunDir;
use super::template::Template;
use super::{ServerError, USER, child, postmaster};

/// No sync: a template that did not reach the disk is found out by its marker. No locale: the same
/// on every machine.
pub(super) const INITDB_FLAGS: [&str; 7] = [
    "--no-sync",
    "--no-locale",
    "--encoding",
    "UTF8",
    "--auth=trust",
    "--username",
    USER,
];
const INITDB_AT_MOST: Duration = Duration::from_secs(60);

/// Where a data directory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// A copy of the template in the cache.
    Template,
    /// A copy that an earlier server used, made the same as the template again.
    Spare,
    /// `initdb`, because there was no template yet.
    Initdb,
}

/// Makes the data directory of a run directory, and gives both to the server's user.
pub(super) fn make(
    template: &Template,
    binaries: &Binaries,
    account: &Account,
    dir: &RunDir,
) -> Result<DataSource, ServerError> {
    if let Some(source) = template.copy_to(&dir.data()) {
        dir.hand_over(account)?;
        return Ok(source);
    }
    // A copy that broke off.
    if let Err(error) = fs::remove_dir_all(dir.data())
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(ServerError::io("remove", &dir.data())(error));
    }
    dir.hand_over(account)?;
    initdb(binaries, account, dir)?;
    template.store(&dir.data());
    Ok(DataSource::Initdb)
}

fn initdb(binaries: &Binaries, account: &Account, dir: &RunDir) -> Result<(), ServerError> {
    let program = binaries.dir.join("initdb");
    let (log, errors) = dir.open_log()?;
    let mut initdb = postmaster::quiet(&program, account, dir)
        // The guard knows it by this beginning.
        .arg("-D")
        .arg(dir.data())
        .args(INITDB_FLAGS)
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(ServerError::io("start", &program))?;
    let ended = child::wait(&mut initdb, INITDB_AT_MOST);
    let status = match ended.map_err(ServerError::io("wait for", &program))? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => {
            child::signal_group(&initdb, Signal::SIGKILL);
            let _ = initdb.wait();
            format!("not done after {} s", INITDB_AT_MOST.as_secs())
        }
    };
    let log = dir.log_tail();
    Err(ServerError::Initdb { status, log })
}
