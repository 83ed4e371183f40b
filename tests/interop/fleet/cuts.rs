//! Connections to Redis that are cut, or fall silent, in the middle of a reply.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time;

use super::{
    assert_all_calls_are_good, assert_each_is_spent_once, authority::Authority,
    beside_one_process::by_chance, faults::source, replica::Replica, replicas, run, settings, with,
    worst,
};
use crate::redis::server::{Proxy, Server};

#[tokio::test]
async fn connection_that_is_cut_after_any_byte_of_a_reply_is_a_miss() {
    for is_silent in [false, true] {
        let redis = Server::start().await;
        let proxy = Proxy::start(&redis, is_silent).await;
        let authority = Authority::start(Duration::from_secs(300)).await;
        let token = source(&authority, &redis.url(), None)
            .token()
            .await
            .unwrap();
        let mut requests = 1;
        let mut bytes = 0;
        // Until everything that is needed has passed.
        loop {
            proxy.passes.store(bytes, Ordering::SeqCst);
            let found = source(&authority, &proxy.url(), None)
                .token()
                .await
                .unwrap();
            let now = authority.requests();
            assert!(now - requests <= 1, "{bytes}");
            assert_eq!(found == token, now == requests, "{bytes}");
            if found == token {
                break;
            }
            requests = now;
            // A silent connection costs the limit of a quarter of a second.
            bytes += if is_silent { 97 } else { 1 };
            assert!(bytes < 10_000);
        }
        println!("{bytes} bytes were needed");
    }
}

/// Connections are killed while nothing is under way on them, as by a restart, a failover or a firewall.
#[tokio::test]
async fn connections_that_are_lost_while_idle_cost_no_token_request() {
    const LIFETIMES: usize = 5;

    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": LIFETIMES * 2_000 });
    let settings = with(settings(&authority, redis.url()), &more);
    let running = tokio::spawn(run(replicas(&settings).await));
    while !running.is_finished() {
        time::sleep(Duration::from_millis(500)).await;
        redis
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    assert_all_calls_are_good(&authority, &running.await.unwrap());
    let requests = authority.requests();
    println!("{requests} token requests in {LIFETIMES} lifetimes");
    let alone = LIFETIMES * 10 / 8 + 1;
    assert!(requests <= alone + by_chance(LIFETIMES), "{requests}");
}

/// The most bytes that pass on one connection. A connection needs some hundreds before it gives the first entry.
const MOST: usize = 6_000;

/// A proxy for each replica. Every second one falls silent instead of cutting connections.
async fn proxies(redis: &Server, replicas: usize) -> Vec<Proxy> {
    join_all((0..replicas).map(|number| Proxy::start(redis, number % 2 == 1))).await
}

/// Lets each new connection through these proxies pass on a random number of bytes.
async fn cut_randomly(proxies: &[Proxy]) {
    loop {
        for proxy in proxies {
            proxy
                .passes
                .store(fastrand::usize(..MOST), Ordering::SeqCst);
        }
        time::sleep(Duration::from_millis(2)).await;
    }
}

async fn run_behind(proxies: &[Proxy], settings: &Value) -> Vec<Value> {
    let starts = proxies.iter().map(|proxy| {
        let settings = with(settings.clone(), &json!({ "redis": proxy.url() }));
        async move { Replica::start(&settings).await }
    });
    let replicas = join_all(starts).await;
    tokio::select! {
        results = run(replicas) => results,
        () = cut_randomly(proxies) => unreachable!(),
    }
}

#[tokio::test]
async fn no_call_of_a_fleet_fails_while_connections_are_cut_within_replies() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": 14_000, "lease_ms": 1_000 });
    let settings = with(settings(&authority, Value::Null), &more);
    let proxies = proxies(&redis, 8).await;
    let results = run_behind(&proxies, &settings).await;
    println!("{} token requests in 7 lifetimes", authority.requests());
    assert_all_calls_are_good(&authority, &results);
}

/// Without the store, such a source cannot go on for longer than its token lives. So calls may fail.
#[tokio::test]
async fn no_refresh_token_is_spent_twice_while_connections_are_cut_within_replies() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let more = json!({ "run_ms": 14_000, "lease_ms": 1_000, "refresh_token": first });
    let settings = with(settings(&authority, Value::Null), &more);
    let proxies = proxies(&redis, 8).await;
    let results = run_behind(&proxies, &settings).await;
    let spent = authority.spent();
    println!(
        "{} refresh tokens in 7 lifetimes, {} of the calls are good",
        spent.len(),
        worst(&results)
    );
    assert_each_is_spent_once(&spent);
    assert!(spent.len() >= 3, "{spent:?}");
    assert_eq!(authority.refused(), [""; 0]);
}
