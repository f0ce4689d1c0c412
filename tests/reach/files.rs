//! Passwords and services from files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::site::Site;

const REFUSED: i32 = 69;
const WRONG_SETTINGS: i32 = 64;

#[test]
fn the_password_file_opens_what_its_lines_are_for() {
    let site = Site::new();
    let server = site.server();
    let port = server.port();
    let at = [
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        "scram",
        "-d",
        "postgres",
    ];
    let lines = format!(
        "# comment\n127.0.0.1:{port}:elsewhere:scram:wRoNg\n127.0.0.1:1:*:*:wRoNg\n\n*:{port}:postgres:scram:rIgHt\n*:*:*:*:wRoNg\n"
    );
    site.private("home/.pgpass", &lines);
    site.verify(&at, &[]).exits(0);
    // others
    let wrong = site.private("wrong", "*:*:*:*:wRoNg");
    let run = site.verify(&at, &[("PGPASSFILE", &wrong)]).exits(REFUSED);
    let run = run.complains(&[
        "password authentication failed",
        &format!("the password is from {wrong}:1"),
    ]);
    assert!(!run.stderr.contains("wRoNg"), "{run}");
    let url = format!("host=127.0.0.1 port={port} user=scram dbname=postgres passfile='{wrong}'");
    site.verify(&["--url", &url], &[]).exits(REFUSED);
    // what is nearer wins
    site.verify(&at, &[("PGPASSFILE", &wrong), ("PGPASSWORD", "rIgHt")])
        .exits(0);
    site.verify(&at, &[("PGPASSFILE", "/nonexistent")])
        .exits(REFUSED)
        .complains(&["there is none: set PGPASSWORD"]);
    // what others may read is no secret
    fs::set_permissions(site.home(".pgpass"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = site.verify(&at, &[]).exits(REFUSED);
    run.complains(&[
        "warning: the password file",
        ".pgpass is not used: others may read it",
        "chmod 600",
    ]);
}

#[test]
fn services_are_found_in_the_home_or_in_the_systems_directory() {
    let site = Site::new();
    let server = site.server();
    let service = |user: &str| {
        format!(
            "[{user}]\nhost=127.0.0.1\nport={}\nuser={user}\ndbname=postgres\n",
            server.port()
        )
    };
    site.private(
        "home/.pg_service.conf",
        &format!("{}password=rIgHt\n", service("scram")),
    );
    site.sandbox.write(
        "system/pg_service.conf",
        &format!("{}[broken]\nhost=h\nnonsense\n", service("anybody")),
    );
    let system = site.sandbox.dir().join("system").display().to_string();
    let system = ("PGSYSCONFDIR", system.as_str());
    site.verify(&["--url", "service=scram"], &[]).exits(0);
    site.verify(&["-d", "service=scram"], &[]).exits(0);
    site.verify(&[], &[("PGSERVICE", "scram")])
        .exits(0)
        .shows(&["scram@127.0.0.1"]);
    site.verify(&["--url", "postgresql://?service=anybody"], &[system])
        .exits(0)
        .shows(&["anybody@127.0.0.1"]);
    // the service goes before the environment, and behind the flags
    site.verify(&["-U", "anybody"], &[("PGSERVICE", "scram"), ("PGUSER", "nobody")])
        .exits(0)
        .shows(&["anybody@127.0.0.1"]);
    let file = site.sandbox.write("own.conf", &service("anybody"));
    site.verify(&[], &[("PGSERVICE", "anybody"), ("PGSERVICEFILE", &file)])
        .exits(0);
    // what is wrong is told with its place
    let run = site
        .verify(&["--url", "service=broken"], &[system])
        .exits(WRONG_SETTINGS);
    run.complains(&["system/pg_service.conf:8: there is no `=` in it"]);
    let run = site
        .verify(&["--url", "service=nowhere"], &[system])
        .exits(WRONG_SETTINGS);
    run.complains(&[
        "there is no service of that name in",
        ".pg_service.conf or ",
        "system/pg_service.conf",
    ]);
}
