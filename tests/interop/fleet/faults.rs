//! What happens to a fleet when Redis is slow, full, restarted or cut off, and when clocks are wrong.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::{Value, json};
use tokio::time;
use tower_oauth2_client::{
    ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest, TokenSource,
    test_util::ManualClock,
    token_store::{RedisTokenStore, ShareTokens},
};

use super::{
    authority::Authority,
    replica::{self, Replica},
    run, settings, with,
};
use crate::{
    redis::server::{Proxy, Server},
    support::http,
};

/// Replicas call an API without a pause, and a fault happens every few seconds.
#[tokio::test]
async fn no_call_fails_whatever_happens_to_redis() {
    let mut redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": 32_000, "pace_ms": 20 });
    let settings = with(settings(&authority, &redis.url()), &more);
    let replicas = super::replicas(&settings).await;
    let running = tokio::spawn(run(replicas));
    for words in [
        &["CLIENT", "PAUSE", "3000"][..],
        &["DEBUG", "SLEEP", "3"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["CONFIG", "SET", "maxmemory", "0"],
        &["FLUSHALL"],
        &["SCRIPT", "FLUSH"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ] {
        time::sleep(Duration::from_millis(2500)).await;
        println!("{words:?}");
        redis.command(words).await;
    }
    time::sleep(Duration::from_secs(2)).await;
    println!("restart with its data lost");
    redis = redis.restart().await;
    time::sleep(Duration::from_secs(2)).await;
    drop(redis);
    let results: Vec<Value> = running.await.unwrap();
    println!("{} token requests", authority.server.token_requests());
    for result in &results {
        assert_eq!(result["errors"], json!([]));
        assert_eq!(result["failed"], json!([]), "{result}");
    }
}

fn source(authority: &Authority, redis: &str, clock: Option<&ManualClock>) -> TokenSource {
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(http(), authority.token_endpoint(), client);
    let store = RedisTokenStore::open(redis).unwrap();
    let share = ShareTokens::new(store, replica::keys(), &endpoint);
    let mut tokens = TokenCache::builder(endpoint).share(share);
    if let Some(clock) = clock {
        tokens = tokens.clock(clock);
    }
    let request = TokenRequest::client_credentials().scope("api1");
    tokens.build().source(request)
}

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
            let now = authority.server.token_requests();
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

#[tokio::test]
async fn clocks_that_are_wrong_by_five_minutes_do_no_harm() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(60)).await;
    let clocks = [-1, 0, 1].map(|wrong| {
        let clock = ManualClock::new();
        match wrong {
            -1 => clock.set_wall_back(Duration::from_secs(300)),
            1 => clock.suspend(Duration::from_secs(300)),
            _ => {}
        }
        clock
    });
    let mut tokens = Vec::new();
    for clock in &clocks {
        let token = source(&authority, &redis.url(), Some(clock))
            .token()
            .await
            .unwrap();
        let left = token.expires_in().unwrap();
        assert!(
            left <= Duration::from_secs(60) && left >= Duration::from_secs(50),
            "{left:?}"
        );
        tokens.push(token);
    }
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(authority.server.token_requests(), 1);
}

/// What asynchronous replication leaves: two instances hold the lease until the first of them has renewed it.
#[tokio::test]
async fn loss_of_the_lease_costs_one_more_request_and_the_newer_token_stays() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority
        .server
        .fail_next(tower_oauth2_client::test_util::Failure::delay(
            Duration::from_secs(3),
        ));
    let settings = settings(&authority, &redis.url());
    let mut first = Replica::start(&settings).await;
    first.go();
    while authority.server.requests().is_empty() {
        time::sleep(Duration::from_millis(10)).await;
    }
    redis.command(&["FLUSHALL"]).await;
    let second = run(vec![Replica::start(&settings).await]).await;
    let first = first.result().await;
    assert_eq!(authority.server.requests().len(), 2);
    assert_eq!(
        first["tokens"], second[0]["tokens"],
        "the newer one is used by both"
    );
    let third = run(vec![Replica::start(&settings).await]).await;
    assert_eq!(third[0]["tokens"], second[0]["tokens"]);
    assert_eq!(authority.server.requests().len(), 2);
}
