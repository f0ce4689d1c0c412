//! The guard: a shell that outlives us, to clear away what we leave when we are killed.
//!
//! It reads from a pipe whose other end is ours alone. A line tells it that all is done; the end of
//! the file, that we died. It stands in a process group of its own and ignores what a closing
//! terminal sends. What it does then is in `guard.sh`, and needs nothing but the run directory's
//! path.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::{ServerError, child};

const SCRIPT: &str = include_str!("guard.sh");
const SHELL: &str = "/bin/sh";
/// Longer than the script itself may take.
const END_AT_MOST: Duration = Duration::from_secs(30);

/// A guard on its post. Dropped, it clears away, and has ended.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    /// The one write end. It closes on exec, so that no other child can keep it open.
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Posts a guard over a run directory.
    pub(super) fn post(dir: &Path) -> Result<Guard, ServerError> {
        let mut shell = shell(dir, Stdio::piped()).map_err(ServerError::io("start the shell", Path::new(SHELL)))?;
        let pipe = shell.stdin.take();
        Ok(Guard { shell, pipe })
    }

    /// Tells the guard that there is nothing left to do.
    pub(super) fn dismiss(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            // A guard that was killed cannot be told.
            let _ = pipe.write_all(b"done\n");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = child::wait(&mut self.shell, END_AT_MOST);
    }
}

/// Does what a guard does when its owner is dead, here and now.
pub(super) fn clear_away(dir: &Path) -> io::Result<()> {
    let mut shell = shell(dir, Stdio::null())?;
    if child::wait(&mut shell, END_AT_MOST)?.is_none() {
        shell.kill()?;
        shell.wait()?;
    }
    Ok(())
}

fn shell(dir: &Path, stdin: Stdio) -> io::Result<Child> {
    // Comments would fill the listings of `ps`.
    let script: Vec<&str> = SCRIPT
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    Command::new(SHELL)
        .arg("-c")
        .arg(script.join("\n"))
        .arg("db-race-guard")
        .arg(dir)
        // It must not keep a directory busy, nor the terminal or a pipe of ours open.
        .current_dir("/")
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_guard_removes_the_directory_when_its_owner_is_gone() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("it's a \"dir\"");
        fs::create_dir(&dir).unwrap();
        drop(Guard::post(&dir).unwrap());
        assert!(!dir.exists());
    }

    #[test]
    fn a_dismissed_guard_leaves_everything_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = Guard::post(dir.path()).unwrap();
        guard.dismiss();
        drop(guard);
        assert!(dir.path().exists());
    }

    #[test]
    fn a_guard_does_not_mind_being_asked_to_end() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let mut guard = Guard::post(&dir).unwrap();
        for signal in [
            nix::sys::signal::Signal::SIGHUP,
            nix::sys::signal::Signal::SIGINT,
            nix::sys::signal::Signal::SIGTERM,
        ] {
            // Before the script has set its trap, it may still be ended by a signal; so wait for
            // that first.
            wait_for_trap(guard.shell.id());
            child::signal(&guard.shell, signal);
        }
        assert!(guard.shell.try_wait().unwrap().is_none());
        drop(guard);
        assert!(!dir.exists());
    }

    /// Waits until the process ignores SIGHUP; where there is no /proc, long enough for a shell to
    /// start.
    fn wait_for_trap(pid: u32) {
        let status = format!("/proc/{pid}/status");
        for _ in 0..500 {
            let Ok(status) = fs::read_to_string(&status) else {
                std::thread::sleep(Duration::from_millis(500));
                return;
            };
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
            // SIGTERM is set last.
            if ignored & (1 << (15 - 1)) != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the guard never ignored SIGTERM");
    }
}
