//! What a server that refuses some operations does to the store.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{self, Instant};
use tower_oauth2_client::{
    BoxError,
    token_store::{Found, LeaseOwner, Put, TokenStore},
};

use super::{LONG, assert_found, new_name, put_entry, recovers, server::Server, store, take_lease};

/// A connection that was opened before the server refused anything.
pub(super) struct Admin(MultiplexedConnection);

impl Admin {
    pub(super) async fn of(server: &Server) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(super) async fn run(&mut self, line: &str) -> Result<redis::Value, redis::RedisError> {
        let words: Vec<_> = line.split(' ').collect();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut self.0).await
    }

    pub(super) async fn run_all(&mut self, lines: &[&str]) {
        for line in lines {
            let result = self.run(line).await;
            assert!(result.is_ok(), "{line}: {result:?}");
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Work,
    Fail,
}

#[tokio::test]
async fn refusals_are_errors_at_once_and_end_with_their_cause() -> Result<(), BoxError> {
    let acl = "ACL SETUSER orders on >hunter2 ~* &* +@all";
    for (begins, reads, text, ends) in [
        (
            &["CONFIG SET maxmemory 1"][..],
            Reads::Work,
            "OOM",
            &["CONFIG SET maxmemory 0"][..],
        ),
        (
            &["CONFIG SET min-replicas-to-write 1"],
            Reads::Work,
            "NOREPLICAS",
            &["CONFIG SET min-replicas-to-write 0"],
        ),
        (
            &["ACL SETUSER orders -hset"],
            Reads::Work,
            "",
            &["ACL SETUSER orders +hset"],
        ),
        (
            &["ACL SETUSER orders -evalsha -eval"],
            Reads::Fail,
            "NOPERM",
            &["ACL SETUSER orders +evalsha +eval"],
        ),
        (
            &["ACL SETUSER orders resetkeys"],
            Reads::Fail,
            "NOPERM",
            &["ACL SETUSER orders ~*"],
        ),
        // The password was rotated. Open connections go on.
        (
            &["ACL SETUSER orders resetpass >other"],
            Reads::Work,
            "works",
            &["ACL SETUSER orders resetpass >hunter2"],
        ),
        (
            &[
                "ACL SETUSER orders resetpass >other",
                "CLIENT KILL USER orders",
            ],
            Reads::Fail,
            "WRONGPASS",
            &["ACL SETUSER orders resetpass >hunter2"],
        ),
        (&["ACL DELUSER orders"], Reads::Fail, "WRONGPASS", &[acl]),
        (
            &["CONFIG SET maxclients 1", "CLIENT KILL USER orders"],
            Reads::Fail,
            "",
            &["CONFIG SET maxclients 1000"],
        ),
        // A replica that has lost its primary.
        (
            &["REPLICAOF 127.0.0.1 1"],
            Reads::Work,
            "READONLY",
            &["REPLICAOF NO ONE"],
        ),
        (
            &[
                "CONFIG SET replica-serve-stale-data no",
                "REPLICAOF 127.0.0.1 1",
            ],
            Reads::Fail,
            "MASTERDOWN",
            &["REPLICAOF NO ONE"],
        ),
        // A user of the server may change the databases.
        (&["SCRIPT FLUSH"], Reads::Work, "works", &[]),
        (&["CLIENT KILL USER orders"], Reads::Work, "works", &[]),
    ] {
        let server = Server::start().await;
        let mut admin = Admin::of(&server).await;
        admin.run_all(&[acl]).await;
        let store = store(&server.url().replace("//", "//orders:hunter2@"));
        let (name, fence) = put_entry(&store).await?;
        let (leased, owner) = (new_name(), LeaseOwner::random());
        store.look(&leased, None, &owner, LONG).await?;
        admin.run_all(begins).await;

        let begun = Instant::now();
        let look = store.look(&name, None, &LeaseOwner::random(), LONG).await;
        let is_entry = matches!(look, Ok(Found::Entry { .. }));
        assert_eq!(is_entry, reads == Reads::Work, "{begins:?}: {look:?}");
        let lease = take_lease(&store, &new_name()).await;
        let works = text == "works";
        assert_eq!(lease.is_ok(), works, "{begins:?}: {lease:?}");
        let put = store.put(&name, &owner, fence, "entry".into(), LONG).await;
        assert_eq!(put.is_ok(), works, "{begins:?}: {put:?}");
        let pause = store.release(&leased, &owner, LONG).await;
        if [
            "NOREPLICAS",
            "READONLY",
            "MASTERDOWN",
            "WRONGPASS",
            "NOPERM",
        ]
        .contains(&text)
        {
            assert!(pause.is_err(), "{begins:?}");
        }
        if let Err(error) = lease {
            let shown = format!("{error} {error:?}");
            let is_named = shown.to_uppercase().contains(text);
            assert!(is_named, "{begins:?}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{begins:?}");

        admin.run_all(ends).await;
        recovers(&store).await;
        assert_found(&store, &name).await;
    }
    Ok(())
}

#[tokio::test]
async fn server_that_cannot_save_still_gives_entries() -> Result<(), BoxError> {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    let store = store(&server.url());
    let (name, _) = put_entry(&store).await?;
    let folder: Vec<String> = redis::from_redis_value(admin.run("CONFIG GET dir").await?)?;
    std::fs::remove_dir_all(&folder[1])?;
    let mut save = redis::cmd("CONFIG");
    save.arg(&["SET", "save", "3600 1"]);
    save.query_async::<()>(&mut admin.0).await?;
    let failed = async {
        loop {
            let _ = admin.run("BGSAVE").await;
            let info: String = redis::from_redis_value(admin.run("INFO persistence").await?)?;
            if info.contains("rdb_last_bgsave_status:err") {
                return Ok::<_, BoxError>(());
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(Duration::from_secs(10), failed).await??;

    assert_found(&store, &name).await;
    let error = take_lease(&store, &new_name()).await.unwrap_err();
    assert!(error.to_string().contains("MISCONF"), "{error}");
    admin
        .run_all(&["CONFIG SET stop-writes-on-bgsave-error no"])
        .await;
    take_lease(&store, &new_name()).await?;
    Ok(())
}

#[tokio::test]
async fn script_of_another_that_never_ends_is_an_error_at_once() -> Result<(), BoxError> {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    let store = store(&server.url());
    let (name, _) = put_entry(&store).await?;
    admin.run_all(&["CONFIG SET lua-time-limit 100"]).await;
    let mut other = Admin::of(&server).await;
    let endless = tokio::spawn(async move {
        let mut command = redis::cmd("EVAL");
        command.arg("while true do end").arg(0);
        command.query_async::<redis::Value>(&mut other.0).await
    });
    time::sleep(Duration::from_millis(500)).await;
    let error = take_lease(&store, &name).await.unwrap_err();
    assert!(error.to_string().contains("BUSY"), "{error}");
    admin.run_all(&["SCRIPT KILL"]).await;
    let _ = endless.await?;
    recovers(&store).await;
    assert_found(&store, &name).await;
    Ok(())
}

/// A client that uses too much memory is disconnected. Redis 6 has no such limit.
#[tokio::test]
async fn client_that_is_evicted_goes_on() -> Result<(), BoxError> {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    if admin
        .run("CONFIG SET maxmemory-clients 1500000")
        .await
        .is_err()
    {
        return Ok(());
    }
    let store = store(&server.url());
    let (name, owner) = (new_name(), LeaseOwner::random());
    let Found::Leased { fence, .. } = store.look(&name, None, &owner, LONG).await? else {
        panic!("nobody holds the lease");
    };
    let large = vec![b'x'; 4_000_000];
    let put = store.put(&name, &owner, fence, large.into(), LONG).await;
    assert!(put.is_err(), "{put:?}");
    let put = store
        .put(&name, &owner, fence, "entry".into(), LONG)
        .await?;
    assert_eq!(put, Put::Stored);
    assert_found(&store, &name).await;
    Ok(())
}

#[tokio::test]
async fn full_server_still_gives_entries() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let (name, fence) = put_entry(&store).await?;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;

    assert_found(&store, &name).await;
    let error = take_lease(&store, &new_name()).await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
    let put = store
        .put(&name, &LeaseOwner::random(), fence, "e".into(), LONG)
        .await;
    assert!(put.is_err());
    assert!(store.remove(&name, fence).await?, "removing frees memory");

    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    take_lease(&store, &new_name()).await?;
    Ok(())
}

#[tokio::test]
async fn read_only_server_still_gives_entries() -> Result<(), BoxError> {
    let (server, primary) = (Server::start().await, Server::start().await);
    let store = store(&server.url());
    let (name, fence) = put_entry(&store).await?;
    // A replica drops its data once it has those of its primary.
    let url = primary.url();
    let (_, port) = url.rsplit_once(':').unwrap();
    primary
        .command(&["CONFIG", "SET", "requirepass", "unknown"])
        .await;
    server.command(&["REPLICAOF", "127.0.0.1", port]).await;

    assert_found(&store, &name).await;
    let error = take_lease(&store, &new_name()).await.unwrap_err();
    assert!(
        error.to_string().contains("READONLY") || error.to_string().contains("read only"),
        "{error}"
    );
    assert!(store.remove(&name, fence).await.is_err());

    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    recovers(&store).await;
    Ok(())
}
