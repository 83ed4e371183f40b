//! Instances whose clocks are wrong by five minutes.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tower_oauth2_client::test_util::ManualClock;

use super::{
    assert_all_calls_are_good, authority::Authority, beside_one_process::by_chance, faults::source,
    program::wrong_clock, replica::Replica, run, settings, with,
};
use crate::redis::server::Server;

const SKEWS: [i64; 3] = [-300, 0, 300];

#[tokio::test]
async fn clocks_that_are_wrong_by_five_minutes_do_no_harm() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(60)).await;
    let clocks: [ManualClock; 3] = SKEWS.map(wrong_clock);
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
    assert_eq!(authority.requests(), 1);
}

/// Each third of the fleet has another time. The first token comes from an instance whose clock is behind all others, or before them.
#[tokio::test]
async fn no_call_of_a_fleet_fails_if_clocks_are_wrong_by_five_minutes() {
    tokio::join!(runs_with_wrong_clocks(-300), runs_with_wrong_clocks(300));
}

async fn runs_with_wrong_clocks(first: i64) {
    const LIFETIMES: usize = 7;

    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": LIFETIMES * 2_000, "callers": 10, "pace_ms": 50 });
    let settings = with(settings(&authority, redis.url()), &more);
    let start = |skew: i64| {
        let settings = with(settings.clone(), &json!({ "clock_skew_s": skew }));
        async move { Replica::start(&settings).await }
    };
    let mut replicas = vec![start(first).await];
    let others = (0..8).map(|number| start(SKEWS[number % SKEWS.len()]));
    replicas.extend(join_all(others).await);
    replicas[0].go();
    authority.received(1).await;
    let results = run(replicas).await;
    assert_all_calls_are_good(&authority, &results);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"]);
    }
    let requests = authority.requests();
    println!("{requests} token requests in {LIFETIMES} lifetimes");
    // One process renews after 0.8 lifetimes.
    let alone = LIFETIMES * 10 / 8 + 1;
    assert!(requests <= alone + by_chance(LIFETIMES), "{requests}");
}
