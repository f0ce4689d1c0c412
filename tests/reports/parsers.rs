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
    parsed_all([(kind, path)]).map(|[value]| value)
}

/// The same of several files: Python takes its time to begin.
#[track_caller]
pub(crate) fn parsed_all<const N: usize>(files: [(&str, &Path); N]) -> Option<[Value; N]> {
    let python = python()?;
    let mut command = Command::new(python);
    command.arg(project().join("tests/reports/parse.py"));
    for (kind, path) in files {
        command.arg(kind).arg(path);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let texts = files.map(|(kind, path)| format!("--- {kind}\n{}", std::fs::read_to_string(path).unwrap()));
    assert!(output.status.success(), "{stderr}\n{}", texts.join("\n"));
    let values: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    Some(values.try_into().unwrap())
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
