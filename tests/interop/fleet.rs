//! A fleet of processes that shares its tokens through Redis.

mod authority;
mod beside_one_process;
mod clocks;
mod contents;
mod cuts;
mod deployments;
mod failover;
mod faults;
mod lost_holders;
mod program;
mod replica;
mod store;

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tower_oauth2_client::test_util::Failure;

use self::{
    authority::{Authority, Habit},
    replica::Replica,
};
use crate::redis::server::Server;

const REPLICAS: usize = 8;

async fn replicas(settings: &Value) -> Vec<Replica> {
    join_all((0..REPLICAS).map(|_| Replica::start(settings))).await
}

/// Lets all processes begin at the same time, and returns what they found.
async fn run(mut replicas: Vec<Replica>) -> Vec<Value> {
    for replica in &mut replicas {
        replica.go();
    }
    join_all(replicas.iter_mut().map(Replica::result)).await
}

/// `redis` is the URL of one server, or what [`store::open`] takes.
fn settings(authority: &Authority, redis: impl Into<Value>) -> Value {
    settings_for("client", authority, redis)
}

fn settings_for(client: &str, authority: &Authority, redis: impl Into<Value>) -> Value {
    json!({
        "redis": redis.into(),
        "token": authority.token_endpoint(),
        "api": authority.api_for(client),
        "client": client,
        "secret": "secret",
    })
}

fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

#[track_caller]
fn assert_no_errors(results: &[Value]) {
    for result in results {
        assert_eq!(result["errors"], json!([]), "{result}");
    }
}

/// No call carried an expired token or one of another client, not even one that was sent again.
#[track_caller]
fn assert_all_calls_are_good(authority: &Authority, results: &[Value]) {
    assert_no_errors(results);
    for result in results {
        assert_eq!(result["failed"], json!([]), "{result}");
        assert!(result["good"].as_u64().unwrap() > 0, "{result}");
    }
    assert_eq!(authority.refused(), [""; 0]);
}

#[track_caller]
fn assert_each_is_spent_once(refresh_tokens: &[String]) {
    let once: HashSet<_> = refresh_tokens.iter().collect();
    assert_eq!(once.len(), refresh_tokens.len(), "{refresh_tokens:?}");
}

/// Returns the part of the calls that went well, of the replica with the fewest.
fn worst(results: &[Value]) -> f64 {
    let part =
        |result: &Value| result["good"].as_f64().unwrap() / result["calls"].as_f64().unwrap();
    results.iter().map(part).fold(1.0, f64::min)
}

#[tokio::test]
async fn cold_fleet_of_processes_sends_one_token_request() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority
        .server
        .fail_until_told(Failure::delay(Duration::from_millis(300)));
    let settings = with(
        settings(&authority, redis.url()),
        &json!({ "callers": 1000 }),
    );
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    assert_eq!(authority.requests(), 1);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"]);
    }
}

#[tokio::test]
async fn every_replica_succeeds_at_a_server_where_a_new_token_revokes_the_last_one() {
    let redis = Server::start().await;
    let authority = Authority::with(Habit::Revokes, Duration::from_secs(2)).await;
    let more = json!({ "run_ms": 20_000, "pace_ms": 20 });
    let settings = with(settings(&authority, redis.url()), &more);
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    println!(
        "{} token requests; the worst replica: {}",
        authority.requests(),
        worst(&results)
    );
    assert!(worst(&results) >= 0.99, "{results:?}");
    assert!(authority.requests() <= 15);
}

#[tokio::test]
async fn refresh_token_of_a_fleet_of_processes_is_spent_once() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let more = json!({ "run_ms": 20_000, "refresh_token": first, "callers": 100 });
    let settings = with(settings(&authority, redis.url()), &more);
    let results = run(replicas(&settings).await).await;
    assert_all_calls_are_good(&authority, &results);
    let spent = authority.spent();
    assert_each_is_spent_once(&spent);
    assert!((9..=16).contains(&spent.len()), "{}", spent.len());
}
