//! What has to be cleared away: the postmaster, its directory, and the guard over them, in this order.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::guard::Guard;
use super::run_dir::RunDir;
use super::{ServerError, child};

/// After 5 s the postmaster kills those of its children that did not end; killed earlier, it would leave them behind.
const QUIT_AT_MOST: Duration = Duration::from_secs(7);
const KILL_AT_MOST: Duration = Duration::from_secs(2);

/// A run directory with its guard, and the postmaster once there is one. Dropping clears everything away.
#[derive(Debug)]
pub(super) struct Instance {
    postmaster: Option<Child>,
    // The guard ends before the lock on the directory is given up: fields are dropped in this order.
    guard: Guard,
    dir: RunDir,
    ended: bool,
}

impl Instance {
    pub(super) fn new(dir: RunDir) -> Result<Instance, ServerError> {
        match Guard::post(dir.path()) {
            Ok(guard) => Ok(Instance {
                postmaster: None,
                guard,
                dir,
                ended: false,
            }),
            Err(error) => {
                let _ = dir.remove();
                Err(error)
            }
        }
    }

    pub(super) fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Starts the postmaster, and says which process it is.
    pub(super) fn start_postmaster(&mut self, mut command: Command) -> Result<u32, ServerError> {
        let log = self.dir.open_log()?;
        let both = log
            .try_clone()
            .map_err(ServerError::io("open the log in", self.dir.path()))?;
        let program = command.get_program().to_owned();
        let postmaster = command
            .stdout(log)
            .stderr(both)
            .spawn()
            .map_err(ServerError::io("start", program.as_ref()))?;
        let pid = postmaster.id();
        self.postmaster = Some(postmaster);
        Ok(pid)
    }

    /// How the postmaster ended, if it has.
    pub(super) fn postmaster_status(&mut self) -> Option<ExitStatus> {
        self.postmaster.as_mut()?.try_wait().ok()?
    }

    /// Clears everything away, once.
    pub(super) fn end(&mut self) -> Result<(), ServerError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        if let Some(postmaster) = &mut self.postmaster {
            end_postmaster(postmaster);
        }
        // When it fails, the guard is not dismissed: it tries once more.
        self.dir.remove().map_err(ServerError::io("remove", self.dir.path()))?;
        self.guard.dismiss();
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// QUIT, an immediate shutdown: a last checkpoint would be for nobody.
fn end_postmaster(postmaster: &mut Child) {
    for (signal, at_most) in [(Signal::SIGQUIT, QUIT_AT_MOST), (Signal::SIGKILL, KILL_AT_MOST)] {
        if let Ok(None) = postmaster.try_wait() {
            child::signal(postmaster, signal);
        }
        // An error means that there is nothing to wait for.
        if !matches!(child::wait(postmaster, at_most), Ok(None)) {
            return;
        }
    }
}
