//! Other people's parsers, in an environment that `scripts/ensure-parsers` makes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::common::project;

/// What the parser of that kind understands of the file; none where there are no parsers.
#[track_caller]
pub(crate) fn parsed(kind: &str, path: &Path) -> Option<Value> {
    let python = python()?;
    let script = project().join("tests/reports/parse.py");
    let output = Command::new(python).arg(script).arg(kind).arg(path).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        output.status.success(),
        "{} is no {kind}\n{stderr}\n{text}",
        path.display()
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    // the environment is made where the script thinks that cargo builds
    let output = Command::new(project().join("scripts/ensure-parsers")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(75) => {
            // past the harness, which hides what passing tests print
            let _ = writeln!(std::io::stderr(), "\n{said}");
            return None;
        }
        _ => panic!("scripts/ensure-parsers failed: {said}"),
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Some(project().join(target).join("parsers/bin/python3"))
}
