//! What happens to a fleet when Redis is slow, full, restarted or gone.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time;
use tower_oauth2_client::{
    ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest, TokenSource,
    test_util::ManualClock,
    token_store::{RedisTokenStore, ShareTokens},
};

use super::{
    assert_all_calls_are_good, authority::Authority, program, replica::Replica, run, settings_for,
    with,
};
use crate::{redis::server::Server, support::http};

/// Returns a source of an instance in this process.
pub(super) fn source(
    authority: &Authority,
    redis: &str,
    clock: Option<&ManualClock>,
) -> TokenSource {
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    let endpoint = TokenEndpoint::new(http(), authority.token_endpoint(), client);
    let store = RedisTokenStore::open(redis).unwrap();
    let share = ShareTokens::new(store, program::keys(), &endpoint);
    let mut tokens = TokenCache::builder(endpoint).share(share);
    if let Some(clock) = clock {
        tokens = tokens.clock(clock);
    }
    let request = TokenRequest::client_credentials().scope("api1");
    tokens.build().source(request)
}

/// Replicas of two clients call an API without a pause, and a fault happens every few seconds.
///
/// The API counts each call with an expired token, and each one with a token of the other client.
#[tokio::test]
async fn no_call_fails_whatever_happens_to_redis() {
    let mut redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": 32_000, "pace_ms": 20 });
    let starts = (0..8).map(|number| {
        let client = ["client", "other"][number % 2];
        let settings = with(settings_for(client, &authority, redis.url()), &more);
        async move { Replica::start(&settings).await }
    });
    let replicas = join_all(starts).await;
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
    println!("{} token requests", authority.requests());
    assert_all_calls_are_good(&authority, &results);
}
