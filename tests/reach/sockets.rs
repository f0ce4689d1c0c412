//! Servers behind unix sockets.

use db_race::postgres::server::Options;

use crate::site::Site;

#[test]
fn a_directory_is_a_host() {
    let site = Site::new();
    let server = site.sandbox.server();
    let dir = server.socket_dir().display().to_string();
    let encoded = dir.replace('/', "%2F");
    for words in [
        vec!["-h", &dir, "-U", "postgres"],
        vec![
            "--url",
            &format!("host={dir} user=postgres sslmode=verify-full sslrootcert=system"),
        ],
        vec!["--url", &format!("postgresql://postgres@{encoded}/postgres")],
        vec![
            "--url",
            &format!("postgresql://postgres@{encoded}:5432,127.0.0.1:1/postgres"),
        ],
        vec!["--url", &format!("postgresql:///postgres?host={dir}&user=postgres")],
        vec!["--url", &format!("host={dir}-not,{dir} user=postgres")],
    ] {
        site.verify(&words, &[])
            .exits(0)
            .shows(&[&format!("postgres@{dir}:5432/postgres")]);
    }
    let run = site
        .verify(&["-h", &dir, "-p", "5433", "-U", "postgres"], &[])
        .exits(69);
    run.complains(&[&format!("{dir}:5433"), "No such file"]);
    // who runs the server
    let (user, _) = server.account();
    let user = nix::unistd::User::from_uid(user.into()).unwrap().unwrap().name;
    let at = ["-h", &dir, "-U", "postgres"];
    site.verify(&at, &[("PGREQUIREPEER", &user)]).exits(0);
    let run = site.verify(&at, &[("PGREQUIREPEER", "somebody_else")]).exits(69);
    run.complains(&[&format!("the server runs as {user}"), "requirepeer"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_behind_an_at_is_a_socket_without_a_file() {
    let site = Site::new();
    let name = format!("@db-race-test-{}", std::process::id());
    let version = site.sandbox.server().value("show server_version_num");
    if version.as_str() < "140000" {
        // the server has no such sockets
        return;
    }
    // beside its own, which is above the data
    let settings = vec![("unix_socket_directories".into(), format!("..,{name}"))];
    let server = site.sandbox.server_with(Options {
        settings,
        ..Options::default()
    });
    assert!(server.value("show unix_socket_directories").contains(&name));
    let url = format!("postgresql://postgres@{}/postgres", name.replace('@', "%40"));
    for words in [vec!["-h", &name, "-U", "postgres"], vec!["--url", &url]] {
        site.verify(&words, &[])
            .exits(0)
            .shows(&[&format!("postgres@{name}:5432/postgres")]);
    }
    let run = site.verify(&["-h", "@nobody-there", "-U", "postgres"], &[]).exits(69);
    run.complains(&["@nobody-there", "refused"]);
}
