//! What has to be cleared away: the postmaster, its directory, and the guard over them, in this
//! order.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::guard::Guard;
use super::run_dir::RunDir;
use super::template::Template;
use super::{ServerError, child};

/// After 5 s the postmaster kills those of its children that did not end; killed earlier, it would
/// leave them behind.
const QUIT_AT_MOST: Duration = Duration::from_secs(7);
const KILL_AT_MOST: Duration = Duration::from_secs(2);

/// A run directory with its guard, and the postmaster once there is one. Dropping clears everything
/// away.
#[derive(Debug)]
pub(super) struct Instance {
    postmaster: Option<Child>,
    // The guard ends before the lock on the directory is given up: fields are dropped in this
    // order.
    guard: Guard,
    dir: RunDir,
    /// Who may have the data directory when it is no longer needed.
    heir: Option<Template>,
    ended: bool,
}

impl Instance {
    pub(super) fn new(dir: RunDir) -> Result<Instance, ServerError> {
        match Guard::post(dir.path()) {
            Ok(guard) => Ok(Instance {
                postmaster: None,
                guard,
                dir,
                heir: None,
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
        let (log, errors) = self.dir.open_log()?;
        let program = command.get_program().to_owned();
        let postmaster = command
            .stdout(log)
            .stderr(errors)
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

    /// Lets the template have the data directory afterwards. Only for a server that came up well.
    pub(super) fn bequeath_data(&mut self, template: Template) {
        self.heir = Some(template);
    }

    /// Clears everything away, once.
    pub(super) fn end(&mut self) -> Result<(), ServerError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        let is_orderly = self.postmaster.as_mut().is_some_and(end_postmaster);
        if let Some(template) = self.heir.take_if(|_| is_orderly)
            && self.dir.take_back().is_ok()
        {
            template.keep_spare(&self.dir.data());
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

/// Ends the postmaster, and says whether it ended because it was asked to, and all its children
/// before it.
fn end_postmaster(postmaster: &mut Child) -> bool {
    if !matches!(postmaster.try_wait(), Ok(None)) {
        return false;
    }
    // QUIT, an immediate shutdown: a last checkpoint would be for nobody.
    child::signal(postmaster, Signal::SIGQUIT);
    match child::wait(postmaster, QUIT_AT_MOST) {
        Ok(Some(status)) => status.code().is_some(),
        Ok(None) => {
            child::signal(postmaster, Signal::SIGKILL);
            let _ = child::wait(postmaster, KILL_AT_MOST);
            false
        }
        // There is nothing to wait for.
        Err(_) => false,
    }
}
