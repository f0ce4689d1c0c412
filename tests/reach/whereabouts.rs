//! Whether a command goes to a server of the user's, and to which.

use crate::site::Site;

const USAGE: i32 = 64;

#[test]
fn variables_lead_a_users_own_files_and_aim_nothing_bundled() {
    let site = Site::new();
    let server = site.server();
    server.exec("create database shop");
    server.exec(
        "create table t (id int primary key, n int not null); insert into t values (1, 0); grant all on t to anybody",
    );
    let scenario = "title = \"t\"\nrounds = 1\n[[sessions]]\nname = \"s\"\nsessions = 2\n\
                    steps = [{ name = \"a\", sql = \"update t set n = n + 1\" }]\n[expect]\n\"a.accepted\" = \"== 2\"\n";
    site.sandbox.write("own.toml", scenario);
    let port = server.port().to_string();
    let here = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
        ("PGUSER", "anybody"),
        ("PGDATABASE", "postgres"),
    ];
    let dead = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", "1"),
        ("PGUSER", "anybody"),
        ("PGDATABASE", "postgres"),
    ];

    // one's own scenario
    site.run(&["contend", "own.toml"], &here)
        .exits(0)
        .shows(&[&format!("anybody@127.0.0.1:{port}/postgres")]);
    assert_ne!(server.value("select n from t"), "0");
    let run = site.run(&["contend", "own.toml"], &[]).exits(USAGE);
    run.complains(&["--url, -h or -d", "DATABASE_URL, PGSERVICE or PGHOST"]);
    site.run(&["contend", "own.toml"], &[("PGUSER", "anybody")])
        .exits(USAGE);
    // a bundled one stays away from what the environment names, be it there or not
    for variables in [&here, &dead] {
        let run = site
            .run(
                &["contend", "last-room", "--rounds", "1", "--format", "json"],
                variables,
            )
            .exits(0);
        assert_eq!(run.json()["server"]["throwaway"], true, "{run}");
    }
    // and goes where a flag says, completed by the environment
    let run = site
        .run(
            &[
                "contend",
                "last-room",
                "--rounds",
                "1",
                "-d",
                "shop",
                "--format",
                "json",
            ],
            &here,
        )
        .exits(0);
    let address = run.json()["server"]["address"].to_string();
    assert!(
        address.contains(&format!("anybody@127.0.0.1:{port}/db_race_hotel_")),
        "{address}"
    );
    let run = site.run(&["contend", "last-room", "-U", "anybody"], &here).exits(USAGE);
    run.complains(&["-U says as whom", "give --url, -h, -p or -d"]);

    // looking does no harm, and looking at the seed instead of one's own data would prove nothing
    let run = site.run(&["verify", "hotel", "--format", "json"], &here).exits(3);
    assert_eq!(run.json()["server"]["throwaway"], false, "{run}");
    site.run(&["verify", "hotel"], &dead).exits(69);
    let run = site
        .run(&["verify", "hotel", "--format", "json"], &[("PGUSER", "anybody")])
        .exits(0);
    assert_eq!(run.json()["server"]["throwaway"], true, "{run}");
}

#[test]
fn the_nearest_setting_wins() {
    let site = Site::new();
    let server = site.server();
    server.exec("create database flag; ");
    server.exec("create database url");
    server.exec("create database variable");
    let port = server.port();
    let url = |database: &str| format!("postgresql://anybody@127.0.0.1:{port}/{database}");
    let variables = |database| {
        move |mut all: Vec<(&'static str, String)>| {
            all.push(("DATABASE_URL", url(database)));
            all
        }
    };
    let all = variables("url")(vec![
        ("PGDATABASE", "variable".into()),
        ("PGHOST", "127.0.0.1".into()),
        ("PGPORT", port.to_string()),
        ("PGUSER", "anybody".into()),
    ]);
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (words, expected) in [
        (vec![], "/url"),
        (vec!["-U", "plain"], "plain@127.0.0.1"),
        (vec!["-d", "flag"], "/flag"),
        (vec!["-h", "127.0.0.1"], "/variable"),
        (vec!["--url", "host=127.0.0.1"], "/variable"),
        (vec!["--url", "dbname=flag"], "/flag"),
        (vec!["--url", "dbname=url", "--dbname", "flag"], "/flag"),
        (
            vec!["--host", "nowhere.invalid", "-d", "host=127.0.0.1 dbname=flag"],
            "/flag",
        ),
    ] {
        site.verify(&words, &all).exits(0).shows(&[expected]);
    }
    let (one, two) = (url("flag"), url("url"));
    site.run(&["contend", "last-room", "--url", &one, "--url", &two], &[])
        .exits(USAGE)
        .complains(&["takes one --url"]);
}
