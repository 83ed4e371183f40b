//! What `RedisTokenStore` does with servers that are no Redis. `tests/interop/redis` tests it against Redis.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{self, Instant},
};
use tower_oauth2_client::{
    BoxError,
    token_store::{EntryName, Fence, Found, LeaseOwner, RedisTokenStore, TokenStore},
};

const LIMIT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

/// Answers each read with these bytes.
async fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while matches!(client.read(&mut buffer).await, Ok(read) if read > 0) {
                    if client.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("redis://hunter2user:hunter2@{address}")
}

async fn look(store: &RedisTokenStore) -> Result<Found, BoxError> {
    let (name, owner) = (EntryName::new("name"), LeaseOwner::random());
    store.look(&name, None, &owner, LONG).await
}

#[tokio::test]
async fn hostile_answers_are_errors_within_the_limit() -> Result<(), BoxError> {
    const HUGE: &[u8] = &[b'x'; 100_000];
    for answer in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\n\r\n<html></html>",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
        b"-ERR unknown command\r\n-ERR\r\n-ERR\r\n-ERR\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"*-1\r\n$-1\r\n",
        b"$99999999999999999999\r\n",
        b"*2147483647\r\n",
        b"%1\r\n+server\r\n+redis\r\n:1\r\n:2\r\n:3\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
        b">1\r\n:5\r\n*0\r\n*0\r\n",
        HUGE,
    ] {
        let store = RedisTokenStore::open(server(answer).await)?.limit(LIMIT);
        let start = Instant::now();
        for _ in 0..5 {
            let error = look(&store).await.unwrap_err();
            let shown = format!("{error} {error:?} {store:?}");
            assert!(
                !shown.contains("hunter2") && shown.len() < 10_000,
                "{shown}"
            );
        }
        let (name, fence) = (EntryName::new("name"), Fence::new(1));
        store.wait(&name, fence, LIMIT).await;
        assert!(start.elapsed() < LIMIT * 15, "{:?}", start.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn server_that_is_not_there_is_an_error_and_waiters_do_not_spin() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", listener.local_addr()?);
    drop(listener);
    let store = RedisTokenStore::open(url)?;
    look(&store).await.unwrap_err();

    let (name, fence, start) = (EntryName::new("name"), Fence::new(1), Instant::now());
    for _ in 0..3 {
        store.wait(&name, fence, LONG).await;
    }
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(400) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
    Ok(())
}

#[tokio::test]
async fn dropped_caller_does_not_stop_connecting() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", listener.local_addr()?);
    let store = RedisTokenStore::open(url)?.limit(Duration::from_millis(50));
    let mut accepted = 0;
    for _ in 0..5 {
        look(&store).await.unwrap_err();
        while let Ok(client) = time::timeout(Duration::from_millis(50), listener.accept()).await {
            accepted += 1;
            // Keeps the connection open, without an answer.
            std::mem::forget(client?.0.into_std()?);
        }
    }
    assert_eq!(accepted, 1, "all callers wait for the same connection");
    Ok(())
}

#[test]
fn invalid_urls_are_errors_that_do_not_show_the_password() {
    for url in [
        "",
        "localhost",
        "https://user:hunter2@localhost",
        "redis://user:hunter2@:x/",
        "redis://user:hunter2@localhost/db",
    ] {
        let error = RedisTokenStore::open(url).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(RedisTokenStore::open_cluster(Vec::<String>::new()).is_err());
}
