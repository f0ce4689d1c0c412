//! Who is running.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The processes of PostgreSQL servers whose data lie below a directory, in `/proc` their sessions included.
///
/// A session's command line says nothing of its directory, but its working directory is the data directory.
pub fn postgres_in(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().unwrap();
    let Ok(processes) = fs::read_dir("/proc") else {
        return postmasters_in(dir);
    };
    let mut pids = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // a process that has just ended has neither
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let works_there =
            fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().starts_with(dir));
        let is_server = command
            .split('\0')
            .next()
            .is_some_and(|program| program.contains("postgres"));
        if is_server && (works_there || command.contains(dir)) {
            pids.push(pid);
        }
    }
    pids
}

fn postmasters_in(dir: &str) -> Vec<u32> {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,args="])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    let ours = output
        .lines()
        .filter(|line| line.contains("postgres") && line.contains(dir));
    ours.filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Whether a process runs; one that has ended and was not waited for doesn't.
pub fn is_alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // "4711 (name) S ..."; a name may hold anything
        Ok(stat) => !matches!(stat.rsplit(')').next().map(str::trim_start), Some(rest) if rest.starts_with(['Z', 'X'])),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), None).is_ok(),
    }
}
