//! Where reports go, and what becomes of those that can't be written.

use std::fs;

use crate::common::Sandbox;
use crate::parsers::parsed;
use crate::verify::checks;

#[test]
fn a_report_that_cannot_be_written_is_named_and_the_others_are_there() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    checks(&sandbox);
    sandbox.write("file", "not a folder");
    let reports = "--report junit=file/r.xml --report tap=deep/er/r.tap";
    let run = sandbox
        .run(&format!("verify checks/a_held.sql --url {} {reports}", server.url()))
        .exits(73);
    assert!(run.stderr.contains("cannot write the report to file/r.xml"), "{run}");
    assert!(run.stdout.starts_with("PASSED"), "{run}");
    assert!(
        fs::read_to_string(sandbox.dir().join("deep/er/r.tap"))
            .unwrap()
            .contains("ok 1 - t.held")
    );
    // a violation is not hidden by a full disk
    sandbox
        .run(&format!("verify checks --url {} {reports}", server.url()))
        .exits(2);
}

#[test]
fn stdout_takes_one_report_and_the_text_goes_to_stderr() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    checks(&sandbox);
    let verify = format!("verify checks/a_held.sql --url {}", server.url());
    let run = sandbox.run(&format!("{verify} --report json=-")).exits(0);
    assert_eq!(run.json()["verdict"]["outcome"], "passed");
    assert!(run.stderr.contains("PASSED  1 check on"), "{run}");
    let run = sandbox.run(&format!("{verify} --report json=- --quiet")).exits(0);
    assert_eq!(run.stderr, "");
    for both in ["--report json=- --report tap=-", "--format tap --report json=-"] {
        sandbox
            .run(&format!("{verify} {both}"))
            .exits(64)
            .complains(&["only one report can go to stdout", "tap"]);
    }
    sandbox
        .run(&format!("{verify} --report junti=x"))
        .exits(64)
        .complains(&["there is no kind `junti`", "junit"]);
}

#[test]
fn a_run_that_could_not_be_made_leaves_no_report_of_the_one_before() {
    let sandbox = Sandbox::new();
    checks(&sandbox);
    for name in ["r.xml", "r.tap", "r.sarif", "r.prom", "r.json"] {
        sandbox.write(name, "of yesterday");
    }
    let command = "verify checks --url postgresql://u:secret@127.0.0.1:1/db --report junit=r.xml --report tap=r.tap \
                   --report sarif=r.sarif --report prometheus=r.prom --report json=r.json --report markdown=r.md";
    let run = sandbox.run(command).exits(69).complains(&["127.0.0.1:1"]);
    let path = |name: &str| sandbox.dir().join(name);
    for name in ["r.xml", "r.tap", "r.sarif", "r.prom", "r.json", "r.md"] {
        let text = fs::read_to_string(path(name)).unwrap();
        assert!(
            !text.contains("secret") && !text.contains("yesterday"),
            "{name}: {text}"
        );
    }
    assert!(!run.stderr.contains("secret"), "{run}");
    if let Some(report) = parsed("junit", &path("r.xml")) {
        assert_eq!(
            (&report["tests"], &report["errors"]),
            (&1.into(), &1.into()),
            "{report}"
        );
    }
    if let Some(tests) = parsed("tap", &path("r.tap")) {
        assert_eq!((tests.as_array().unwrap().len(), &tests[0]["ok"]), (1, &false.into()));
    }
    if let Some(log) = parsed("sarif", &path("r.sarif")) {
        let invocation = &log["runs"][0]["invocations"][0];
        assert_eq!(
            (&invocation["exitCode"], &invocation["executionSuccessful"]),
            (&69.into(), &false.into())
        );
    }
    if let Some(samples) = parsed("openmetrics", &path("r.prom")) {
        let code = samples
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == "db_race_run_exit_code")
            .unwrap();
        assert_eq!(code["value"], 69.0);
    }
    parsed("json", &path("r.json"));
}
