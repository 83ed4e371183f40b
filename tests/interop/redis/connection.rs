//! One connection serves everybody, and is replaced when it is lost: how many there are, and what a loss costs.
#![allow(clippy::disallowed_methods, reason = "these tests measure real time")]

use std::{
    future::poll_fn,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime,
    task::JoinSet,
    time::{self, Instant},
};
use tower_oauth2_client::{
    BoxError,
    token_store::{Found, LeaseOwner, RedisTokenStore, TokenStore},
};

use super::{
    LONG, assert_found, link::Link, new_name, put_entry, recovers, server::Server, store,
    take_lease,
};

/// How many connections the server has accepted, without those of the commands of this test.
async fn connections(server: &Server, commands: &AtomicUsize) -> usize {
    let own = commands.fetch_add(1, Ordering::SeqCst) + 1;
    let info = server.command(&["INFO", "stats"]).await;
    let info: String = redis::from_redis_value(info).unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    // The test that waits until the server has started connects as well.
    line.unwrap().parse::<usize>().unwrap() - own - 1
}

#[tokio::test]
async fn connection_that_the_server_closes_costs_no_error() -> Result<(), BoxError> {
    let mut server = Server::start().await;
    let store = store(&server.url());
    let (name, _) = put_entry(&store).await?;
    let kills = async |server: &Server| {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    };
    kills(&server).await;
    assert_found(&store, &name).await;
    kills(&server).await;
    take_lease(&store, &new_name()).await?;
    // Many servers and gateways close a connection that has been idle.
    server.command(&["CONFIG", "SET", "timeout", "1"]).await;
    time::sleep(Duration::from_secs(4)).await;
    assert_found(&store, &name).await;
    server = server.restart().await;
    take_lease(&store, &name).await?;
    drop(server);
    assert!(take_lease(&store, &new_name()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn thousands_of_operations_share_one_connection() -> Result<(), BoxError> {
    let server = Server::start().await;
    let commands = AtomicUsize::new(0);
    let store = store(&server.url());
    let mut looks = JoinSet::new();
    for _ in 0..10_000 {
        let store = store.clone();
        looks.spawn(async move { take_lease(&store, &new_name()).await.is_ok() });
    }
    let done = looks.join_all().await;
    assert!(done.iter().all(|is_ok| *is_ok));
    assert_eq!(connections(&server, &commands).await, 1);
    Ok(())
}

#[tokio::test]
async fn late_replies_reach_nobody_and_do_not_end_the_connection() -> Result<(), BoxError> {
    let server = Server::start().await;
    let link = Link::to(server.address()).await;
    let store = RedisTokenStore::open(link.url())?.limit(Duration::from_millis(150));
    recovers(&store).await;
    for round in 0..5 {
        link.delay.store(250, Ordering::SeqCst);
        let mut late = JoinSet::new();
        for _ in 0..50 {
            let store = store.clone();
            late.spawn(async move { take_lease(&store, &new_name()).await });
        }
        let late = late.join_all().await;
        assert!(late.iter().all(Result::is_err), "round {round}");
        link.delay.store(0, Ordering::SeqCst);
        // The late replies arrive between these.
        let mut checks = JoinSet::new();
        for index in 0..200_u32 {
            let store = store.clone();
            checks.spawn(async move {
                time::sleep(Duration::from_millis(u64::from(index))).await;
                let (name, owner) = (new_name(), LeaseOwner::random());
                let entry = format!("entry {index} {}", name.as_str());
                // The connection may still be busy with late replies.
                let Ok(Found::Leased { fence, .. }) = store.look(&name, None, &owner, LONG).await
                else {
                    return false;
                };
                let put = store.put(&name, &owner, fence, entry.clone().into(), LONG);
                if put.await.is_err() {
                    return false;
                }
                match store.look(&name, None, &owner, LONG).await {
                    Ok(Found::Entry { entry: found, .. }) => assert_eq!(found, entry),
                    Ok(found) => panic!("{found:?}"),
                    Err(_) => {}
                }
                true
            });
        }
        let done = checks.join_all().await;
        let good = done.iter().filter(|is_good| **is_good).count();
        assert!(good > 50, "round {round}: {good}");
    }
    assert_eq!(link.connections(), 1, "a slow connection is kept");
    Ok(())
}

#[tokio::test]
async fn server_that_falls_silent_is_not_flooded_with_connections() -> Result<(), BoxError> {
    let server = Server::start().await;
    let link = Link::to(server.address()).await;
    let store = RedisTokenStore::open(link.url())?.limit(Duration::from_millis(100));
    recovers(&store).await;
    // Replies take longer than the limit, for as long as this lasts.
    link.delay.store(150, Ordering::SeqCst);
    let (begun, mut busy) = (Instant::now(), JoinSet::new());
    for index in 0..100 {
        let store = store.clone();
        busy.spawn(async move {
            time::sleep(Duration::from_millis(index * 3)).await;
            while begun.elapsed() < Duration::from_secs(5) {
                let _ = take_lease(&store, &new_name()).await;
            }
        });
    }
    busy.join_all().await;
    let connections = link.connections();
    println!("{connections} connections in five seconds");
    assert!(connections <= 6, "{connections}");
    link.delay.store(0, Ordering::SeqCst);
    recovers(&store).await;
    Ok(())
}

/// `ShareTokens` may have a shorter limit than the store.
#[tokio::test]
async fn silent_connection_is_replaced_although_its_callers_give_up_early() -> Result<(), BoxError>
{
    let server = Server::start().await;
    let link = Link::to(server.address()).await;
    let store = RedisTokenStore::open(link.url())?.limit(Duration::from_secs(20));
    recovers(&store).await;
    link.delay.store(60_000, Ordering::SeqCst);
    for _ in 0..3 {
        let early = Duration::from_millis(100);
        let name = new_name();
        assert!(
            time::timeout(early, take_lease(&store, &name))
                .await
                .is_err()
        );
    }
    link.delay.store(0, Ordering::SeqCst);
    let soon = Duration::from_secs(10);
    time::timeout(soon, take_lease(&store, &new_name())).await??;
    assert_eq!(link.connections(), 2);
    Ok(())
}

#[tokio::test]
async fn dropped_waits_leave_nothing_behind() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    let mut waits = JoinSet::new();
    for index in 0..10_000_u32 {
        let store = store.clone();
        waits.spawn(async move {
            let name = new_name();
            let fence = take_lease(&store, &name).await?;
            // They are dropped before they subscribe, before the server confirms it, while they check the lease, and while they wait.
            let mut wait = store.wait(&name, fence, LONG);
            for _ in 0..index % 20 {
                poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_ready())).await;
                tokio::task::yield_now().await;
            }
            Ok::<_, BoxError>(())
        });
        if index % 100 == 0 {
            time::sleep(Duration::from_millis(20)).await;
        }
    }
    for waited in waits.join_all().await {
        waited?;
    }
    let clients = async || {
        let clients = server.command(&["CLIENT", "LIST"]).await;
        redis::from_redis_value::<String>(clients).unwrap()
    };
    let mut left = usize::MAX;
    for _ in 0..100 {
        let channels = server.command(&["PUBSUB", "CHANNELS"]).await;
        left = redis::from_redis_value::<Vec<String>>(channels)?.len();
        if left == 0 {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(left, 0, "channels with a subscription");
    assert_eq!(clients().await.lines().count(), 2);

    drop(store);
    let mut closed = false;
    for _ in 0..100 {
        closed = clients().await.lines().count() == 1;
        if closed {
            break;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    assert!(closed, "the last store closes the connection");
    Ok(())
}

#[test]
fn store_outlives_the_runtime_of_its_connection() {
    static URL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    static STORE: LazyLock<RedisTokenStore> = LazyLock::new(|| store(URL.get().unwrap()));

    let current = || {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let main = current();
    let server = main.block_on(Server::start());
    URL.set(server.url()).unwrap();
    let look = async || take_lease(&STORE, &new_name()).await.unwrap();

    // Each test has a runtime of its own.
    for _ in 0..3 {
        current().block_on(look());
    }
    // A runtime that exists, but that nobody drives.
    let idle = current();
    idle.block_on(look());
    main.block_on(recovers(&STORE));
    main.block_on(look());
    drop(idle);
    main.block_on(look());
}

#[test]
fn runtime_that_stops_while_it_connects_does_not_stop_others() {
    let current = || {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let main = current();
    let server = main.block_on(Server::start());
    let link = main.block_on(Link::to(server.address()));
    link.delay.store(100, Ordering::SeqCst);
    let store = RedisTokenStore::open(link.url()).unwrap();
    // Nobody drives this runtime after the limit of one look.
    let idle = current();
    let short = store.clone().limit(Duration::from_millis(10));
    let look = async |store: &RedisTokenStore| take_lease(store, &new_name()).await;
    idle.block_on(look(&short)).unwrap_err();
    link.delay.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    main.block_on(recovers(&store));
    assert!(begun.elapsed() < Duration::from_secs(15));
    drop(idle);
}

#[tokio::test]
async fn operations_share_one_attempt_to_connect() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let store = RedisTokenStore::open(format!("redis://{}", listener.local_addr()?))?;
    let attempts = tokio::spawn(async move {
        let mut attempts = 0;
        // Refuses everybody.
        while let Ok(accepted) = time::timeout(Duration::from_secs(2), listener.accept()).await {
            drop(accepted);
            attempts += 1;
        }
        attempts
    });
    for _ in 0..5 {
        let mut looks = JoinSet::new();
        for _ in 0..200 {
            let store = store.clone();
            looks.spawn(async move { take_lease(&store, &new_name()).await.is_err() });
        }
        assert!(looks.join_all().await.iter().all(|is_error| *is_error));
    }
    let attempts = attempts.await?;
    println!("{attempts} connections for 1,000 operations");
    assert!(attempts <= 10, "{attempts}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_connection_is_kept_alive_and_small_packets_are_not_delayed() -> Result<(), BoxError> {
    let server = Server::start().await;
    let store = store(&server.url());
    take_lease(&store, &new_name()).await?;
    time::sleep(Duration::from_millis(500)).await;
    let sockets = std::fs::read_to_string("/proc/net/tcp")?;
    let server = format!("0100007F:{:04X}", server.address().port());
    let timers: Vec<_> = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[2] == server && fields[3] == "01")
        .map(|fields| fields[5].to_owned())
        .collect();
    // A timer of type 2 is that of keep-alive packets, without which a gateway forgets an idle connection.
    assert_eq!(timers.len(), 1, "{sockets}");
    assert!(timers[0].starts_with("02:"), "{timers:?}");
    Ok(())
}
