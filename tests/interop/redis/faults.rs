//! What a slow, full, read-only, restarted or wrong Redis does to the store.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{self, Instant},
};
use tower_oauth2_client::{
    BoxError,
    test_util::token_store::suite,
    token_store::{Fence, Found, LeaseOwner, RedisTokenStore, TokenStore},
};

use super::{
    LONG, assert_found, new_name, put_entry, recovers,
    server::{Proxy, Server},
    store, take_lease,
};

#[tokio::test]
async fn slow_server_costs_the_limit_and_not_more() -> Result<(), BoxError> {
    for words in [
        &["DEBUG", "SLEEP", "3"][..],
        &["CLIENT", "PAUSE", "3000"],
        &["CLIENT", "PAUSE", "3000", "WRITE"],
    ] {
        let server = Server::start().await;
        let store = RedisTokenStore::open(server.url())?.limit(Duration::from_millis(200));
        recovers(&store).await;
        let url = server.url();
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let sleeps = tokio::spawn(async move {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            super::command_at(&url, &words).await
        });
        time::sleep(Duration::from_millis(300)).await;

        let (start, owner, name) = (Instant::now(), LeaseOwner::random(), new_name());
        let error = store.look(&name, None, &owner, LONG).await.unwrap_err();
        assert!(error.to_string().contains("within 200ms"), "{error}");
        assert!(store.renew(&name, &owner, LONG).await.is_err());
        store
            .wait(&name, Fence::new(1), Duration::from_secs(60))
            .await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        sleeps.await?;
        recovers(&store).await;
    }
    Ok(())
}

#[tokio::test]
async fn restart_without_data_keeps_fences_growing() -> Result<(), BoxError> {
    let mut server = Server::start().await;
    let store = store(&server.url());
    let (name, mut last) = put_entry(&store).await?;
    for _ in 0..3 {
        server = server.restart().await;
        recovers(&store).await;
        let fence = take_lease(&store, &name).await?;
        assert!(fence > last, "{fence:?} follows {last:?}");
        last = fence;
    }
    Ok(())
}

#[tokio::test]
async fn stopped_server_is_an_error_at_once() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    recovers(&store).await;
    drop(server);
    let start = Instant::now();
    for _ in 0..3 {
        assert!(take_lease(&store, &new_name()).await.is_err());
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn lost_scripts_are_sent_again() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let (name, _) = put_entry(&store).await?;
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert_found(&store, &name).await;
    take_lease(&store, &new_name()).await?;
    Ok(())
}

#[tokio::test]
async fn every_key_expires_and_has_the_prefix() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url()).prefix("orders/");
    suite(&store, &store).await?;
    let keys: Vec<String> = redis::from_redis_value(server.command(&["KEYS", "*"]).await)?;
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("orders/"), "{key}");
        let ttl: i64 = redis::from_redis_value(server.command(&["PTTL", &key]).await)?;
        assert!(ttl > 0, "{key} {ttl}");
    }
    Ok(())
}

#[tokio::test]
async fn many_waiters_share_one_connection_and_do_not_poll() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let mut waits = JoinSet::new();
    let mut leases = Vec::new();
    for _ in 0..20 {
        let (name, owner) = (new_name(), LeaseOwner::random());
        let Found::Leased { fence, .. } = store.look(&name, None, &owner, LONG).await? else {
            panic!("nobody holds the lease");
        };
        for _ in 0..10 {
            let (store, name) = (store.clone(), name.clone());
            waits.spawn(async move {
                let start = Instant::now();
                store.wait(&name, fence, LONG).await;
                start.elapsed()
            });
        }
        leases.push((name, owner, fence));
    }
    time::sleep(Duration::from_millis(500)).await;
    let clients = server.command(&["CLIENT", "LIST"]).await;
    let clients: String = redis::from_redis_value(clients)?;
    // The second one is that of this command.
    assert_eq!(clients.lines().count(), 2, "{clients}");
    let before = scripts_run(&server).await?;
    time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        scripts_run(&server).await?,
        before,
        "waiting runs no scripts"
    );

    for (name, owner, fence) in leases {
        store
            .put(&name, &owner, fence, "entry".into(), LONG)
            .await?;
    }
    while let Some(waited) = waits.join_next().await {
        // Later, they would look again without a message.
        let waited = waited?;
        assert!(
            waited > Duration::from_millis(900),
            "{waited:?}: nobody had put anything"
        );
        assert!(waited < Duration::from_secs(2), "messages wake");
    }
    // Nobody is subscribed any more.
    let mut left = usize::MAX;
    for _ in 0..100 {
        let channels = server.command(&["PUBSUB", "CHANNELS"]).await;
        left = redis::from_redis_value::<Vec<String>>(channels)?.len();
        if left == 0 {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(left, 0, "subscriptions end");
    Ok(())
}

async fn scripts_run(server: &Server) -> Result<String, BoxError> {
    let info = server.command(&["INFO", "commandstats"]).await;
    let info: String = redis::from_redis_value(info)?;
    let mut lines = info
        .lines()
        .filter(|line| line.starts_with("cmdstat_evalsha:"));
    Ok(lines.next().ok_or("no script has run")?.to_owned())
}

#[tokio::test]
async fn waiters_are_woken_when_the_connection_is_lost() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let name = new_name();
    let fence = take_lease(&store, &name).await?;
    let waits = async {
        let start = Instant::now();
        store.wait(&name, fence, LONG).await;
        start.elapsed()
    };
    let kills = async {
        time::sleep(Duration::from_millis(300)).await;
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    };
    let (waited, ()) = tokio::join!(waits, kills);
    let after_the_kill = Duration::from_millis(290)..Duration::from_secs(2);
    assert!(after_the_kill.contains(&waited), "{waited:?}");
    recovers(&store).await;
    Ok(())
}

#[tokio::test]
async fn connection_that_is_cut_at_any_byte_is_replaced() -> Result<(), BoxError> {
    const TASKS: usize = 25;

    let server = Arc::new(Server::start().await);
    let mut tasks = JoinSet::new();
    for first in 0..TASKS {
        let server = server.clone();
        tasks.spawn(async move {
            let proxy = Proxy::start(&server, false).await;
            let (mut errors, mut successes) = (0, 0);
            for bytes in (first..700).step_by(TASKS) {
                proxy.passes.store(bytes, Ordering::SeqCst);
                let store = store(&proxy.url());
                let start = Instant::now();
                for _ in 0..3 {
                    match take_lease(&store, &new_name()).await {
                        Ok(_) => successes += 1,
                        Err(_) => errors += 1,
                    }
                }
                let took = start.elapsed();
                assert!(took < Duration::from_secs(3), "{bytes} bytes: {took:?}");
                proxy.passes.store(usize::MAX, Ordering::SeqCst);
                recovers(&store).await;
            }
            (errors, successes)
        });
    }
    let done = tasks.join_all().await;
    let errors: u32 = done.iter().map(|(errors, _)| errors).sum();
    let successes: u32 = done.iter().map(|(_, successes)| successes).sum();
    println!("{errors} errors, {successes} successes");
    assert!(errors > 300 && successes > 300);
    Ok(())
}

#[tokio::test]
async fn connection_that_falls_silent_is_replaced() -> Result<(), BoxError> {
    let server = Server::start().await;
    let proxy = Proxy::start(&server, true).await;
    let store = RedisTokenStore::open(proxy.url())?.limit(Duration::from_millis(200));
    proxy.passes.store(1000, Ordering::SeqCst);
    while take_lease(&store, &new_name()).await.is_ok() {}
    proxy.passes.store(usize::MAX, Ordering::SeqCst);
    let start = Instant::now();
    recovers(&store).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
