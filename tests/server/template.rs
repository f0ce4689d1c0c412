//! Its data are a copy of what was made once, and nobody sees what another did.

use super::*;

/// The one template in the cache.
pub(crate) fn template_in(cache: &Path) -> PathBuf {
    let entries = fs::read_dir(cache).unwrap().flatten();
    let is_template = |path: &PathBuf| path.join("complete").exists();
    let templates: Vec<_> = entries.map(|entry| entry.path()).filter(is_template).collect();
    assert_eq!(templates.len(), 1);
    templates[0].clone()
}

#[tokio::test]
async fn a_template_is_made_once_and_mended() {
    let base = base();
    let cache = base.path().join("cache");
    let options = options_with_cache(base.path());
    let start = async || {
        let server = Server::start(&options).await?;
        let times = server.start_times();
        println!("{times:?}");
        server.stop().await?;
        Ok::<_, ServerError>(times.data_source)
    };
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);

    // Files that did not reach the disk before the power failed.
    let control = template_in(&cache).join("data/global/pg_control");
    fs::write(&control, "").unwrap();
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);

    // Damage that only the server can see costs one start, and not every one.
    let size = fs::metadata(&control).unwrap().len();
    fs::write(&control, vec![0; usize::try_from(size).unwrap()]).unwrap();
    assert!(matches!(start().await, Err(ServerError::Exited { .. })));
    assert_eq!(start().await.unwrap(), DataSource::Initdb);
    assert_eq!(start().await.unwrap(), DataSource::Spare);
}

/// Every row of every system catalog, as hashes.
async fn catalogs(client: &Client) -> Vec<(String, String)> {
    let sql = "select relname::text from pg_class where relkind = 'r' \
               and relnamespace = 'pg_catalog'::regnamespace order by relname";
    let mut hashes = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("select md5(string_agg(t::text, ' ' order by t::text)) || '' from {table} t");
        let hash: Option<String> = client.query_one(&sql, &[]).await.unwrap().get(0);
        hashes.push((table, hash.unwrap_or_default()));
    }
    hashes
}

#[tokio::test]
async fn what_one_server_did_is_not_seen_by_the_next() {
    let base = base();
    let options = options_with_cache(base.path());
    let server = Server::start(&options).await.unwrap();
    let client = connect(&server).await;
    let fresh = catalogs(&client).await;
    for sql in [
        "create role somebody",
        "create database other",
        "create table mine as select generate_series(1, 100000)",
        "alter system set work_mem = '1MB'",
        "alter database postgres set work_mem = '2MB'",
        "create function f() returns int language sql as 'select 1'",
        "delete from pg_catalog.pg_description",
        "vacuum full pg_class",
        "checkpoint",
        "select pg_switch_wal()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    assert_ne!(catalogs(&client).await, fresh);
    server.stop().await.unwrap();

    let server = Server::start(&options).await.unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Spare);
    let client = connect(&server).await;
    assert_eq!(catalogs(&client).await, fresh);
    assert_eq!(value(&client, "show work_mem").await, "4MB");
}

#[tokio::test]
async fn data_of_a_server_that_ended_by_itself_is_not_used_again() {
    let base = base();
    let options = options_with_cache(base.path());
    let server = Server::start(&options).await.unwrap();
    // Not SIGKILL, after which its shared memory would stay.
    kill(server.postmaster_pid(), Signal::SIGQUIT);
    within(PATIENCE, "the server gone", || !is_alive(server.postmaster_pid()));
    server.stop().await.unwrap();
    let server = Server::start(&options).await.unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Template);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_does_not_matter() {
    let base = base();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    let server = Server::start(&Options {
        cache_dir: Some(file.join("below")),
        ..options(base.path())
    })
    .await
    .unwrap();
    assert_eq!(server.start_times().data_source, DataSource::Initdb);
}
