//! It comes up, for whoever starts it, and keeps to itself.

use super::template::template_in;
use super::*;

#[tokio::test]
async fn it_starts_and_answers() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let client = connect(&server).await;
    assert_eq!(value(&client, "select 1::text").await, "1");
    assert!(
        value(&client, "show server_version")
            .await
            .starts_with(server.version())
    );
    assert_eq!(value(&client, "select current_user::text").await, "postgres");
    assert_eq!(value(&client, "show server_encoding").await, "UTF8");
    assert_eq!(value(&client, "show listen_addresses").await, "");
    assert_eq!(
        value(&client, "show data_directory").await,
        server.data_dir().to_str().unwrap()
    );
    assert!(server.dir().starts_with(base.path()));
    println!("{:?}", server.start_times());
    server.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

#[tokio::test]
async fn its_url_works_for_clients_and_psql() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "select 'here'").await, "here");

    let psql = format!("{} -X -A -t -c 'select 6 * 7'", server.psql());
    // Not even a PGPORT leads it astray.
    let output = Command::new("sh")
        .args(["-c", &psql])
        .env("PGPORT", "1")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{psql}");
}

#[tokio::test]
async fn it_works_below_a_directory_with_a_space() {
    let base = base();
    let spaced = base.path().join("with space");
    fs::create_dir(&spaced).unwrap();
    let server = Server::start(&options(&spaced)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "select 1::text").await, "1");
    let output = Command::new("sh")
        .args(["-c", &format!("{} -X -c 'select 1'", server.psql())])
        .output()
        .unwrap();
    assert!(output.status.success());
    drop(server);
    assert!(is_empty(&spaced));
}

#[tokio::test]
async fn settings_of_the_caller_win() {
    let base = base();
    let settings = [("deadlock_timeout", "50ms"), ("application_name", "it's, a \"name\"")];
    let server = Server::start(&Options {
        max_connections: 321,
        settings: settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        ..options(base.path())
    })
    .await
    .unwrap();
    let client = connect(&server).await;
    assert_eq!(value(&client, "show max_connections").await, "321");
    assert_eq!(value(&client, "show deadlock_timeout").await, "50ms");
    assert_eq!(value(&client, "show application_name").await, "it's, a \"name\"");
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_told_with_the_log() {
    let base = base();
    let error = Server::start(&Options {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..options_with_cache(base.path())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ServerError::Exited { .. }));
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "the cache only");
}

#[tokio::test]
async fn a_directory_without_binaries_is_told() {
    let base = base();
    let error = Server::start(&Options {
        bin_dir: Some(base.path().to_owned()),
        ..options(base.path())
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ServerError::BadBinaries { .. }));
    assert!(error.to_string().contains(base.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn it_runs_as_an_ordinary_user_with_no_groups_of_ours() {
    let base = base();
    let server = Server::start(&options(base.path())).await.unwrap();
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", server.postmaster_pid())) else {
        return; // only Linux tells
    };
    let field = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    assert!(field("Uid:").iter().all(|uid| *uid != 0));
    if nix::unistd::geteuid().is_root() {
        assert!(field("Gid:").iter().all(|gid| *gid != 0));
        assert!(field("Groups:").is_empty());
    }
    // Ctrl-C in our terminal is sent to our group.
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.postmaster_pid())).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, server.postmaster_pid().to_string());
}

#[tokio::test]
async fn several_do_not_disturb_each_other() {
    let base = base();
    let first = Server::start(&options(base.path())).await.unwrap();
    let second = Server::start(&options(base.path())).await.unwrap();
    let (one, two) = (connect(&first).await, connect(&second).await);
    one.batch_execute("create table only_here ()").await.unwrap();
    assert!(two.batch_execute("select from only_here").await.is_err());

    let pid = first.postmaster_pid();
    first.stop().await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(value(&two, "select 'still here'").await, "still here");
    second.stop().await.unwrap();
    assert!(is_empty(base.path()));
}

/// Four threads, one empty cache: whoever comes second uses or discards its own.
#[test]
fn several_that_make_the_template_at_once_all_start() {
    let base = base();
    let cache = base.path().join("cache");
    let options = options_with_cache(base.path());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let server = Server::start(&options).await.unwrap();
                    assert_eq!(value(&connect(&server).await, "select 1::text").await, "1");
                });
            });
        }
    });
    template_in(&cache);
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "the cache only");
}
