//! What `--strict` and `--inconclusive` make of a run, in every form.

use serde_json::Value;

use crate::common::Sandbox;

const WARN: &str =
    "-- /// db-race check\n-- id = \"t.it\"\n-- title = \"Look\"\n-- severity = \"warn\"\n-- ///\nselect 1 as id\n";
const UNDECIDED: &str = "-- /// db-race check\n-- id = \"t.it\"\n-- title = \"Fails\"\n-- ///\nselect 1/0 as id\n";

/// What each form says.
struct Said {
    code: i32,
    junit: &'static str,
    tap: &'static str,
    /// The level of SARIF's result or notification.
    sarif: &'static str,
    github: &'static str,
    page: &'static str,
}

#[test]
fn all_forms_agree_with_the_exit_code() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    sandbox.write("warn.sql", WARN);
    sandbox.write("undecided.sql", UNDECIDED);
    let warned = Said {
        code: 1,
        junit: "type=\"warn\"",
        tap: "not ok 1 - t.it",
        sarif: "warning",
        github: "::warning ",
        page: "⚠️ db-race verify: warned",
    };
    let strict = Said {
        code: 2,
        junit: "type=\"error\"",
        sarif: "error",
        github: "::error ",
        page: "❌ db-race verify: failed",
        ..warned
    };
    let undecided = Said {
        code: 3,
        junit: "<error",
        tap: "not ok 1 - t.it",
        sarif: "error",
        github: "::error ",
        page: "❔ db-race verify: inconclusive",
    };
    let fails = Said {
        code: 2,
        junit: "<failure",
        page: "❌ db-race verify: failed",
        ..undecided
    };
    let warns = Said {
        code: 1,
        sarif: "warning",
        github: "::warning ",
        page: "⚠️ db-race verify: warned",
        ..fails
    };
    let passes = Said {
        code: 0,
        junit: "<skipped message=\"could not decide",
        tap: "ok 1 - t.it: Fails # SKIP could not decide",
        sarif: "note",
        github: "::notice ",
        page: "✅ db-race verify: passed",
    };
    for (words, said) in [
        ("warn.sql", warned),
        ("warn.sql --strict", strict),
        ("undecided.sql", undecided),
        ("undecided.sql --inconclusive fail", fails),
        ("undecided.sql --inconclusive warn", warns),
        ("undecided.sql --inconclusive ok", passes),
    ] {
        let reports = "--report junit=r.xml --report tap=r.tap --report sarif=r.sarif --report markdown=r.md \
                       --format github --report prometheus=r.prom";
        let url = server.url();
        let told = sandbox
            .run(&format!("verify {words} --url {url} {reports}"))
            .exits(said.code);
        let read = |name: &str| std::fs::read_to_string(sandbox.dir().join(name)).unwrap();
        let (junit, tap) = (read("r.xml"), read("r.tap"));
        assert!(junit.contains(said.junit), "{words}: {junit}");
        let reds = ["<failure", "<error"]
            .iter()
            .filter(|red| junit.contains(**red))
            .count();
        assert_eq!(reds, usize::from(said.code != 0), "{words}: {junit}");
        assert!(tap.lines().any(|line| line.starts_with(said.tap)), "{words}: {tap}");
        assert_eq!(
            tap.contains("severity: \"error\""),
            words == "warn.sql --strict",
            "{tap}"
        );
        let sarif: Value = serde_json::from_str(&read("r.sarif")).unwrap();
        let run = &sarif["runs"][0];
        let invocation = &run["invocations"][0];
        assert_eq!(invocation["exitCode"], said.code, "{words}");
        let is_decided = words.starts_with("warn");
        assert_eq!(invocation["executionSuccessful"], is_decided, "nothing was repaired");
        let level = match is_decided {
            true => &run["results"][0]["level"],
            false => &invocation["toolExecutionNotifications"][0]["level"],
        };
        assert_eq!(level, said.sarif, "{words}");
        let (github, page) = (told.stdout, read("r.md"));
        assert!(github.starts_with(said.github), "{words}: {github}");
        assert!(page.starts_with(&format!("## {}", said.page)), "{words}: {page}");
        assert_eq!(
            page.contains("the run's flags make it"),
            words.contains("--"),
            "{words}: {page}"
        );
        let metric = format!("db_race_run_exit_code{{run=\"r\"}} {}", said.code);
        assert!(read("r.prom").contains(&metric), "{words}");
    }
}

#[test]
fn forms_of_a_warning_beside_what_could_not_be_decided_agree_with_the_exit_code() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    sandbox.write("checks/a.sql", &WARN.replace("t.it", "t.warn"));
    sandbox.write("checks/b.sql", &UNDECIDED.replace("t.it", "t.undecided"));
    let (warn, error) = ("type=\"warn\"", "type=\"error\"");
    let (red, green) = (
        "not ok 2 - t.undecided",
        "ok 2 - t.undecided: Fails # SKIP could not decide",
    );
    let (inconclusive, failed, warned) = (
        "❔ db-race verify: inconclusive",
        "❌ db-race verify: failed",
        "⚠️ db-race verify: warned",
    );
    for (flags, code, of_warning, of_doubt, page) in [
        ("", 3, warn, red, inconclusive),
        ("--strict", 2, error, red, failed),
        ("--inconclusive fail", 2, warn, red, failed),
        ("--inconclusive warn", 1, warn, red, warned),
        ("--inconclusive ok", 1, warn, green, warned),
        ("--inconclusive warn --strict", 2, error, red, failed),
        ("--inconclusive ok --strict", 2, error, green, failed),
    ] {
        let words = format!(
            "verify checks --url {} --report junit=r.xml --report tap=r.tap --report sarif=r.sarif --report markdown=r.md {flags}",
            server.url()
        );
        sandbox.run(&words).exits(code);
        let read = |name: &str| std::fs::read_to_string(sandbox.dir().join(name)).unwrap();
        let (junit, tap, md) = (read("r.xml"), read("r.tap"), read("r.md"));
        assert!(junit.contains(of_warning), "{flags}: {junit}");
        assert!(tap.lines().any(|line| line.starts_with(of_doubt)), "{flags}: {tap}");
        assert!(md.starts_with(&format!("## {page}")), "{flags}: {md}");
        let sarif: Value = serde_json::from_str(&read("r.sarif")).unwrap();
        let level = if of_warning == warn { "warning" } else { "error" };
        assert_eq!(sarif["runs"][0]["results"][0]["level"], level, "{flags}");
        let doubt = match flags {
            "--inconclusive warn" => "warning",
            _ if of_doubt == green => "note",
            _ => "error",
        };
        let notification = &sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"][0];
        assert_eq!(notification["level"], doubt, "{flags}");
        assert_eq!(sarif["runs"][0]["invocations"][0]["exitCode"], code, "{flags}");
    }
}

#[test]
fn no_form_is_green_where_every_check_was_skipped() {
    let sandbox = Sandbox::new();
    let server = sandbox.server();
    let never = "-- run_on = \"standby\"\n-- ///\nselect";
    for (name, id) in [("a", "t.a"), ("b", "t.b")] {
        let text = UNDECIDED.replace("t.it", id).replace("-- ///\nselect", never);
        sandbox.write(&format!("checks/{name}.sql"), &text);
    }
    let url = server.url();
    let reports = "--report junit=r.xml --report tap=r.tap --report sarif=r.sarif --report markdown=r.md --report prometheus=r.prom";
    for command in [
        format!("verify checks --url {url}"),
        format!("audit checks --url {url} --state state.sqlite"),
    ] {
        let run = sandbox.run(&format!("{command} {reports} --format github")).exits(3);
        assert!(
            run.stdout
                .starts_with("::error title=the run%3A no data%3A no check was run"),
            "{run}"
        );
        let read = |name: &str| std::fs::read_to_string(sandbox.dir().join(name)).unwrap();
        let (junit, tap, md) = (read("r.xml"), read("r.tap"), read("r.md"));
        assert!(
            junit.contains("tests=\"3\" skipped=\"2\" failures=\"0\" errors=\"1\""),
            "{junit}"
        );
        assert!(
            tap.contains("\nnot ok 3 - the run\n") && tap.contains("all 2 were skipped"),
            "{tap}"
        );
        assert!(
            md.contains("inconclusive\n") && md.contains("all 2 were skipped"),
            "{md}"
        );
        let sarif: Value = serde_json::from_str(&read("r.sarif")).unwrap();
        assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], false);
        assert!(read("r.prom").contains("verdict=\"inconclusive\"} 1\n"));
    }
}
