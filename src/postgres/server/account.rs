//! Who the server runs as: we ourselves, or an unprivileged user when we are root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, getegid, geteuid};

use super::ServerError;

/// Whom root steps down to, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The user that the server's processes and files belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    /// Whether that is somebody else than we are.
    step_down: bool,
}

impl Account {
    pub(super) fn choose() -> Result<Account, ServerError> {
        if !geteuid().is_root() {
            return Ok(Account {
                uid: geteuid().as_raw(),
                gid: getegid().as_raw(),
                step_down: false,
            });
        }
        UNPRIVILEGED
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(|user| Account {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                step_down: true,
            })
            .ok_or(ServerError::NoAccount)
    }

    /// Makes the command run as this user.
    ///
    /// Setting a uid as root also makes the standard library drop root's supplementary groups.
    pub(super) fn run(self, command: &mut Command) {
        if self.step_down {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// The new owner of files that we make for this user; none when we are that user.
    pub(super) fn new_owner(self) -> Option<(u32, u32)> {
        self.step_down.then_some((self.uid, self.gid))
    }

    pub(super) fn is(self, uid: u32) -> bool {
        uid == self.uid
    }

    /// Whether a leftover that belongs to this uid is one of ours.
    pub(super) fn answers_for(self, uid: u32) -> bool {
        uid == self.uid || uid == geteuid().as_raw()
    }

    /// Whether this user can get to `dir`, through all that is above it.
    pub(super) fn can_reach(self, dir: &Path) -> bool {
        // Symlinks count with what they point to.
        let Ok(dir) = fs::canonicalize(dir) else {
            return false;
        };
        dir.ancestors().all(|dir| {
            fs::metadata(dir).is_ok_and(|dir| {
                let may_enter = if dir.uid() == self.uid {
                    0o100
                } else if dir.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                dir.mode() & may_enter != 0
            })
        })
    }
}

#[cfg(test)]
impl Account {
    /// Somebody who owns nothing.
    pub(super) fn stranger() -> Account {
        Account {
            uid: 4_000_001,
            gid: 4_000_001,
            step_down: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stranger_cannot_pass_a_closed_directory() {
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::set_permissions(&below, fs::Permissions::from_mode(0o755)).unwrap();

        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!Account::stranger().can_reach(&below));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(Account::stranger().can_reach(&below));
        assert!(!Account::stranger().can_reach(&dir.path().join("missing")));
    }

    #[test]
    fn nobody_is_asked_to_run_it_as_root() {
        let account = Account::choose().unwrap();
        assert_ne!(account.uid, 0);
        assert_eq!(account.step_down, geteuid().is_root());
    }
}
