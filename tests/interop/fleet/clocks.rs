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

/// Each third of the fleet has another time.
#[tokio::test]
async fn no_call_of_a_fleet_fails_if_clocks_are_wrong_by_five_minutes() {
    const LIFETIMES: usize = 7;

    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let more = json!({ "run_ms": LIFETIMES * 2_000, "callers": 10 });
    let settings = with(settings(&authority, redis.url()), &more);
    let starts = (0..9).map(|number| {
        let skew = json!({ "clock_skew_s": SKEWS[number % SKEWS.len()] });
        let settings = with(settings.clone(), &skew);
        async move { Replica::start(&settings).await }
    });
    let results = run(join_all(starts).await).await;
    assert_all_calls_are_good(&authority, &results);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"]);
    }
    let requests = authority.requests();
    println!("{requests} token requests in {LIFETIMES} lifetimes");
    // One process renews after 0.8 lifetimes.
    assert!(
        requests <= LIFETIMES * 10 / 8 + 1 + by_chance(LIFETIMES),
        "{requests}"
    );
}
