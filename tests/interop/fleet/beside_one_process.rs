//! A fleet sends as few token requests as one process.

use std::{env, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    REPLICAS, assert_all_calls_are_good, authority::Authority, replica::Replica, replicas, run,
    settings, with,
};
use crate::{redis::server::Server, setting, support::SECRET};

/// Runs a fleet, and one process alone at the same time and at an authority of its own. All calls must be good.
///
/// Returns how many token requests each of them sent, the fleet first.
pub(super) async fn beside_one_process(
    redis: Value,
    lifetime: Duration,
    more: &Value,
) -> (usize, usize) {
    let authorities = [
        Authority::start(lifetime).await,
        Authority::start(lifetime).await,
    ];
    let [fleet, alone] = authorities
        .each_ref()
        .map(|authority| with(settings(authority, redis.clone()), more));
    let mut processes = replicas(&fleet).await;
    let alone = with(alone, &json!({ "alone": true }));
    processes.push(Replica::start(&alone).await);
    let results = run(processes).await;
    for (authority, results) in authorities
        .iter()
        .zip([&results[..REPLICAS], &results[REPLICAS..]])
    {
        assert_all_calls_are_good(authority, results);
    }
    let [fleet, alone] = authorities.map(|authority| authority.requests());
    println!("a fleet {fleet}, one process {alone}");
    (fleet, alone)
}

/// How many requests more than one process a fleet may send.
///
/// It renews as often, but the two do not draw the same moments: the first renewal is somewhere between 0.4 and 0.9 of a lifetime, and each
/// later one between 0.75 and 0.85. The first one makes a difference of at most 0.5 lifetimes. The sum of all others differs by 0.2 lifetimes
/// after 20 lifetimes, and by 0.5 after 100 (the standard deviation). With 0.8 lifetimes for each request, one in 10,000 runs has more than this.
pub(super) fn by_chance(lifetimes: usize) -> usize {
    1 + lifetimes.div_ceil(50)
}

/// Takes five minutes for a hundred lifetimes, the default.
#[tokio::test]
async fn fleet_sends_as_few_requests_as_one_process_over_many_lifetimes() {
    let lifetimes: usize = env::var("FLEET_LIFETIMES").map_or(100, |it| it.parse().unwrap());
    let redis = Server::start().await;
    let more = json!({ "run_ms": lifetimes * 3_000, "pace_ms": 100 });
    let (fleet, alone) =
        beside_one_process(redis.url().into(), Duration::from_secs(3), &more).await;
    assert!(fleet <= alone + by_chance(lifetimes), "{fleet} and {alone}");
    assert!(fleet >= lifetimes, "{fleet}");
}

#[tokio::test]
async fn fleet_at_oidc_provider_sends_as_few_requests_as_one_process() {
    let redis = Server::start().await;
    // Its tokens are JWTs of two seconds.
    let requests = async |fleet: usize, alone: bool| {
        let authority = Authority::over(&format!("{}/token", setting("OIDC_PROVIDER"))).await;
        let more = json!({
            "client": "basic",
            "secret": SECRET,
            "resource": "https://short-jwt.example/",
            "callers": 100,
            "run_ms": 20_000,
            "pace_ms": 50,
            "alone": alone,
        });
        let settings = with(settings(&authority, redis.url()), &more);
        let replicas = join_all((0..fleet).map(|_| Replica::start(&settings))).await;
        let results = run(replicas).await;
        assert_all_calls_are_good(&authority, &results);
        authority.requests()
    };
    let (fleet, one) = tokio::join!(requests(REPLICAS, false), requests(1, true));
    println!("one process {one}, a fleet {fleet}");
    assert!(
        fleet <= one + by_chance(10),
        "one process {one}, a fleet {fleet}"
    );
}
