//! A conversation with a server that the test plays.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// A conversation, the other end of its stream, and what keeps the stream open.
fn direct() -> (Direct<DuplexStream>, DuplexStream, Line<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let line = Line::new(ours);
    let mut direct = Direct::new(line.downgrade());
    direct.take();
    direct.prepared.add(0);
    (direct, theirs, line)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte_and_its_first_row_is_kept() {
    let (mut direct, mut server, _line) = direct();
    let rows = [
        message(b'2', b""),
        message(b'D', b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"),
        message(b'D', b"\0\x01\0\0\0\x01b"),
        message(b'C', b"SELECT 2\0"),
        ready(),
    ]
    .concat();
    let serve = async {
        for byte in rows {
            server.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(direct.run(0, &[], true), serve);
    assert_eq!(answer, Ok(Some(vec![Some("a".into()), None])));
    assert!(!direct.is_closed() && !direct.was_rolled_back());
}

#[tokio::test]
async fn an_error_ends_a_statement_and_a_fatal_one_the_connection() {
    let (mut direct, mut server, _line) = direct();
    let error = message(b'E', b"VERROR\0C23505\0Mduplicate\0\0");
    server.write_all(&[error, ready()].concat()).await.unwrap();
    let Err(Failure::Server(fields)) = direct.run(0, &[], false).await else {
        panic!("no error");
    };
    assert_eq!((fields.sqlstate(), direct.is_closed()), ("23505", false));

    // it is said while nothing runs, and found before the next statement
    server
        .write_all(&message(b'E', b"VFATAL\0C57P01\0Mterminated\0\0"))
        .await
        .unwrap();
    assert!(direct.is_closed());
    let Err(Failure::Server(fields)) = direct.run(0, &[], false).await else {
        panic!("it runs");
    };
    assert_eq!(fields.sqlstate(), "57P01");
}

#[tokio::test]
async fn a_connection_that_ends_is_lost_and_a_commit_that_was_none_is_told() {
    let (mut direct, mut server, _line) = direct();
    let done = [message(b'C', b"ROLLBACK\0"), ready()].concat();
    server.write_all(&done).await.unwrap();
    assert_eq!(direct.run(0, &[], false).await, Ok(None));
    assert!(direct.was_rolled_back());
    drop(server);
    assert!(matches!(direct.run(0, &[], false).await, Err(Failure::Lost(_))));
}

#[tokio::test]
async fn two_statements_are_sent_at_once_and_answered_one_by_one() {
    let (mut direct, mut server, _line) = direct();
    let one = [message(b'D', b"\0\x01\0\0\0\x011"), ready()].concat();
    let two = [message(b'E', b"VERROR\0C40001\0\0"), ready()].concat();
    server.write_all(&[one, two].concat()).await.unwrap();
    let (first, second) = direct.run_both((0, &[]), (0, &[])).await;
    assert_eq!(first, Ok(Some(vec![Some("1".into())])));
    assert!(matches!(second, Err(Failure::Server(_))));
    let mut sent = vec![0; 4096];
    let n = server.read(&mut sent).await.unwrap();
    let syncs = sent[..n].windows(5).filter(|w| *w == b"S\0\0\0\x04").count();
    assert_eq!(syncs, 2);
}

#[tokio::test]
async fn copy_from_stdin_is_refused_and_does_not_hang() {
    let (mut direct, mut server, _line) = direct();
    server.write_all(&message(b'G', b"\0\0\0")).await.unwrap();
    let serve = async {
        let mut sent = Vec::new();
        while !sent.contains(&b'f') {
            server.read_buf(&mut sent).await.unwrap();
        }
        let refused = message(b'E', b"VERROR\0C57014\0\0");
        server.write_all(&[refused, ready()].concat()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(direct.run(0, &[], false), serve);
    assert!(matches!(answer, Err(Failure::Server(_))));
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_begun_and_costs_nobody_the_connection() {
    let (mut direct, mut server, _line) = direct();
    let zero = direct.prepare(1, "select '\0'").await;
    assert!(matches!(zero, Err(Failure::Unsent(_))), "{zero:?}");
    assert!(matches!(direct.run(7, &[], false).await, Err(Failure::Unsent(_))));
    server.write_all(&ready()).await.unwrap();
    assert_eq!(direct.run(0, &[], false).await, Ok(None));
}

#[tokio::test]
async fn a_statement_larger_than_the_stream_holds_is_sent_whole() {
    let (mut direct, mut server, _line) = direct();
    let value = "x".repeat(300_000);
    let serve = async {
        let mut sent = Vec::new();
        while !sent.ends_with(b"S\0\0\0\x04") {
            server.read_buf(&mut sent).await.unwrap();
        }
        server.write_all(&ready()).await.unwrap();
        sent.iter().filter(|byte| **byte == b'x').count()
    };
    let values = [Some(value)];
    let (answer, seen) = tokio::join!(direct.run(0, &values, false), serve);
    assert_eq!((answer, seen), (Ok(None), 300_000));
}
