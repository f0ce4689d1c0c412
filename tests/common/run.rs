//! A run of the binary: what it said, and how it ended.

use std::fmt;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

/// Longer than any run here takes on a busy machine, shorter than the patience of who waits for the tests.
const RUN_AT_MOST: Duration = Duration::from_secs(120);

/// A run that has ended.
pub struct Run {
    words: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    /// The report, which must be all that there is on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON document: {error}\n{self}"))
    }

    /// Every part is on stdout.
    #[track_caller]
    pub fn shows(self, parts: &[&str]) -> Run {
        for part in parts {
            assert!(self.stdout.contains(part), "`{part}` is not on stdout\n{self}");
        }
        self
    }

    /// Every part is in the message on stderr, and stdout is empty.
    #[track_caller]
    pub fn complains(self, parts: &[&str]) -> Run {
        assert_eq!(self.stdout, "", "an error has no report\n{self}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not on stderr\n{self}");
        }
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run {
            words,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "--- {words}\n--- exit code {code:?}, stdout:\n{stdout}\n--- stderr:\n{stderr}\n---"
        )
    }
}

/// A run that goes on. Dropped, it is ended.
pub struct Running {
    words: String,
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let words = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = [reader(child.stdout.take()), reader(child.stderr.take())];
        Running {
            words,
            child,
            output: Some(output),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        super::signal(self.pid(), signal);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Run {
        self.wait_at_most(RUN_AT_MOST)
    }

    #[track_caller]
    pub fn wait_at_most(mut self, at_most: Duration) -> Run {
        let deadline = Instant::now() + at_most;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {at_most:?}",
                self.words
            );
            thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = self.output.take().unwrap().map(|reader| reader.join().unwrap());
        let run = Run {
            words: self.words.clone(),
            code: status.code(),
            stdout,
            stderr,
        };
        assert!(!run.stderr.contains("panicked"), "it panicked\n{run}");
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // of a child that was waited for both fail, as they should
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.unwrap();
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// How a rule came out: by its measure (`hold.accepted`), or by the check's id.
#[track_caller]
pub fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rules = report["verdict"]["rules"].as_array().unwrap();
    let is_it = |text: &str| text.strip_prefix("check ").unwrap_or(text).split(' ').next() == Some(name);
    let found = rules.iter().find(|rule| is_it(rule["rule"].as_str().unwrap()));
    found.unwrap_or_else(|| panic!("no rule is called {name}: {rules:#?}"))
}

/// The rules that were broken in the race.
pub fn broken_rules(report: &Value) -> Vec<&str> {
    let rules = report["verdict"]["rules"].as_array().unwrap();
    let broken = rules.iter().filter(|rule| rule["state"] == "broken");
    broken.map(|rule| rule["rule"].as_str().unwrap()).collect()
}
