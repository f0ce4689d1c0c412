//! What is seen while a run goes on.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::thread;

use nix::pty::{Winsize, openpty};

use crate::common::Sandbox;
use crate::common::run::Running;

/// A second of attempts, or more.
fn scenario(sandbox: &Sandbox, duration: &str) -> String {
    let text = format!(
        "title = \"t\"\nsystem = \"hotel\"\n[[sessions]]\nname = \"nap\"\nsessions = 4\n\
         schedule = {{ kind = \"constant\", duration = \"{duration}\" }}\n\
         steps = [{{ name = \"sleep\", sql = \"select pg_sleep(0.005)\" }}]\n"
    );
    sandbox.write(&format!("{duration}.toml"), &text)
}

/// All that a run writes to a terminal of that width.
fn on_a_terminal(sandbox: &Sandbox, words: &str, columns: u16) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).unwrap();
    let mut command = sandbox.command(words);
    command.env("TERM", "xterm").env("NO_COLOR", "1").stdin(Stdio::null());
    command
        .stdout(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave);
    let mut child = command.spawn().unwrap();
    // the other end is closed when nobody has it any more
    drop(command);
    let mut master = File::from(terminal.master);
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        // Linux says EIO where others say that the file has ended
        let _ = master.read_to_end(&mut all);
        String::from_utf8(all).unwrap()
    });
    assert!(child.wait().unwrap().success());
    reader.join().unwrap()
}

/// What stood in the line, one after another, without what moves the cursor.
fn lines(seen: &str) -> Vec<String> {
    let drawn = seen.split("\r\u{1b}[2K").map(|line| line.replace("\u{1b}[0m", ""));
    drawn.map(|line| line.trim_end().to_string()).collect()
}

#[test]
fn a_line_on_a_terminal_tells_how_it_goes_and_makes_room_for_the_report() {
    let sandbox = Sandbox::new();
    let file = scenario(&sandbox, "1s");
    for columns in [80, 40] {
        let seen = on_a_terminal(&sandbox, &format!("contend {file}"), columns);
        let lines = lines(&seen);
        let (report, progress) = lines.split_last().unwrap();
        assert!(
            report.starts_with("INCONCLUSIVE") || report.starts_with("PASSED"),
            "{seen:?}"
        );
        for phase in ["starting PostgreSQL", "serial control", "round 1 of 1"] {
            assert!(
                progress.iter().any(|line| line.ends_with(phase)),
                "{phase}: {progress:?}"
            );
        }
        for line in progress {
            assert!(
                line.chars().count() <= usize::from(columns) && !line.contains('\n'),
                "{line:?}"
            );
        }
        let expected: &[&str] = match columns {
            80 => &[" of 1 s, ", "/s, lat ", " waiting, ", " deadlocks, pool "],
            // what there is room for
            _ => &[" of 1 s, ", "/s, ", " deadlocks"],
        };
        let is_full = |line: &String| expected.iter().all(|part| line.contains(part));
        assert!(progress.iter().any(is_full), "{progress:?}");
    }
    let seen = on_a_terminal(&sandbox, "verify hotel/orphan_holds", 80);
    assert!(
        lines(&seen).iter().any(|line| line.ends_with("running 1 checks")),
        "{seen:?}"
    );
    assert!(lines(&seen).last().unwrap().starts_with("PASSED"), "{seen:?}");
}

#[test]
fn elsewhere_there_is_a_plain_line_every_five_seconds_and_none_with_quiet() {
    let sandbox = Sandbox::new();
    let short = sandbox.run(&format!("contend {}", scenario(&sandbox, "1s")));
    assert_eq!(short.stderr, "");
    let file = scenario(&sandbox, "6s");
    let loud = Running::start(sandbox.command(&format!("contend {file} --format json")));
    let quiet = Running::start(sandbox.command(&format!("contend {file} --quiet")));
    let loud = loud.wait();
    loud.json();
    let lines: Vec<&str> = loud.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{loud}");
    assert!(lines[0].starts_with("progress: round 1, 5."), "{loud}");
    for part in ["/s, lat ", ", p99 ", " accepted, ", " waiting, 0 deadlocks, pool "] {
        assert!(lines[0].contains(part), "{part}: {loud}");
    }
    assert_eq!(quiet.wait().stderr, "");
}
