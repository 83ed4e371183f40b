//! A fleet over TLS with an ACL user, and over a cluster. `failover.rs` has one over sentinels.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    assert_all_calls_are_good, assert_each_is_spent_once,
    authority::Authority,
    beside_one_process::{beside_one_process, by_chance},
    replicas, run, settings, store, with,
};

const LIFETIME: Duration = Duration::from_secs(2);
const LIFETIMES: usize = 6;

#[tokio::test]
async fn fleet_over_tls_with_an_acl_user_shares_as_over_one_server() {
    shares(store::tls()).await;
}

#[tokio::test]
async fn fleet_over_a_cluster_of_three_nodes_shares_as_over_one_server() {
    shares(store::cluster()).await;
}

async fn shares(redis: Value) {
    let more = json!({
        "callers": 100,
        "run_ms": LIFETIMES * LIFETIME.as_millis() as usize,
        "pace_ms": 100,
    });
    let tokens = async {
        let (fleet, alone) = beside_one_process(redis.clone(), LIFETIME, &more).await;
        assert!(
            fleet <= alone + by_chance(LIFETIMES),
            "{fleet} and {alone} requests"
        );
    };
    tokio::join!(tokens, spends_each_refresh_token_once(&redis, &more));
}

async fn spends_each_refresh_token_once(redis: &Value, more: &Value) {
    let authority = Authority::start(LIFETIME).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let settings = with(settings(&authority, redis.clone()), more);
    let settings = with(settings, &json!({ "refresh_token": first }));
    let results = run(replicas(&settings).await).await;
    assert_all_calls_are_good(&authority, &results);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"], "the cold start");
    }
    let spent = authority.spent();
    assert_each_is_spent_once(&spent);
    assert!(spent.len() >= LIFETIMES, "{spent:?}");
}
