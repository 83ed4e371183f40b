//! A fleet of processes that shares its tokens through Redis.

mod authority;
mod faults;
mod replica;

use std::{env, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time;

use self::{authority::Authority, replica::Replica};
use crate::{redis::server::Server, setting, support::SECRET};

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

fn settings(authority: &Authority, redis: &str) -> Value {
    json!({
        "redis": redis,
        "token": authority.token_endpoint(),
        "api": authority.api(),
        "client": "client",
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
        .fail_until_told(tower_oauth2_client::test_util::Failure::delay(
            Duration::from_millis(300),
        ));
    let settings = with(
        settings(&authority, &redis.url()),
        &json!({ "callers": 1000 }),
    );
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    assert_eq!(authority.server.token_requests(), 1);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"]);
    }
}

/// Takes five minutes for a hundred lifetimes, the default. One process alone renews at 0.8 of the lifetime, so 125 times.
#[tokio::test]
async fn fleet_sends_as_few_requests_as_one_process_over_many_lifetimes() {
    let lifetimes: usize = env::var("FLEET_LIFETIMES").map_or(100, |it| it.parse().unwrap());
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(3)).await;
    let more = json!({ "run_ms": lifetimes * 3_000, "pace_ms": 100 });
    let settings = with(settings(&authority, &redis.url()), &more);
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    let requests = authority.server.token_requests();
    println!(
        "{requests} token requests in {lifetimes} lifetimes, {} of the calls are good",
        worst(&results)
    );
    let at_most = lifetimes * 135 / 100 + 2;
    assert!((lifetimes..=at_most).contains(&requests), "{requests}");
    assert!(worst(&results) > 0.999, "{results:?}");
}

#[tokio::test]
async fn fleet_at_oidc_provider_sends_as_few_requests_as_one_process() {
    let redis = Server::start().await;
    // Its tokens are JWTs of two seconds.
    let requests = async |fleet: usize, alone: bool| {
        let authority = Authority::over(&format!("{}/token", setting("OIDC_PROVIDER"))).await;
        let settings = json!({
            "redis": redis.url(),
            "token": authority.token_endpoint(),
            "api": authority.api(),
            "client": "basic",
            "secret": SECRET,
            "resource": "https://short-jwt.example/",
            "callers": 100,
            "run_ms": 20_000,
            "pace_ms": 50,
            "alone": alone,
        });
        let replicas = join_all((0..fleet).map(|_| Replica::start(&settings))).await;
        let results = run(replicas).await;
        assert_no_errors(&results);
        authority.forwarded()
    };
    let (one, fleet) = (requests(1, true).await, requests(REPLICAS, false).await);
    println!("one process {one}, a fleet {fleet}");
    assert!(fleet <= one + 2, "one process {one}, a fleet {fleet}");
}

#[tokio::test]
async fn every_replica_succeeds_at_a_server_where_a_new_token_revokes_the_last_one() {
    let redis = Server::start().await;
    let authority = Authority::revoking(Duration::from_secs(3)).await;
    let more = json!({ "run_ms": 30_000, "pace_ms": 20 });
    let settings = with(settings(&authority, &redis.url()), &more);
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    println!(
        "{} token requests; the worst replica: {}",
        authority.server.token_requests(),
        worst(&results)
    );
    assert!(worst(&results) >= 0.99, "{results:?}");
    assert!(authority.server.token_requests() <= 15);
}

#[tokio::test]
async fn refresh_token_of_a_fleet_of_processes_is_spent_once() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(2)).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let more = json!({ "run_ms": 20_000, "refresh_token": first, "callers": 100 });
    let settings = with(settings(&authority, &redis.url()), &more);
    let results = run(replicas(&settings).await).await;
    assert_no_errors(&results);
    assert!(worst(&results) > 0.999, "{results:?}");
    let requests = authority.server.requests();
    let mut spent: Vec<_> = requests
        .iter()
        .filter_map(|it| it.get("refresh_token"))
        .collect();
    let number = spent.len();
    spent.sort_unstable();
    spent.dedup();
    assert_eq!(spent.len(), number, "a refresh token was sent twice");
    assert!((9..=16).contains(&number), "{number}");
}

#[tokio::test]
async fn fleet_goes_on_when_the_holder_is_killed_in_the_middle_of_its_request() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority
        .server
        .fail_next(tower_oauth2_client::test_util::Failure::delay(
            Duration::from_secs(20),
        ));
    let more = json!({ "lease_ms": 3000 });
    let settings = with(settings(&authority, &redis.url()), &more);
    let mut holder = Replica::start(&settings).await;
    let others = replicas(&settings).await;
    holder.go();
    while authority.server.requests().is_empty() {
        time::sleep(Duration::from_millis(10)).await;
    }
    let waiting = tokio::spawn(run(others));
    time::sleep(Duration::from_millis(500)).await;
    holder.kill().await;
    let results = time::timeout(Duration::from_secs(8), waiting).await;
    assert_no_errors(&results.expect("the lease ends").unwrap());
    assert_eq!(authority.server.requests().len(), 2);
}

#[tokio::test]
async fn what_stands_in_redis_tells_nothing_and_cannot_be_moved() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let settings = settings(&authority, &redis.url());
    let refreshing = with(settings.clone(), &json!({ "refresh_token": first }));
    let mut secrets = vec![
        first,
        "client".into(),
        "api1".into(),
        "http".into(),
        "orders".into(),
    ];
    secrets.extend(["bearer", "Bearer", "token_type", "expires_in"].map(String::from));
    for settings in [&settings, &refreshing] {
        let results = run(vec![Replica::start(settings).await]).await;
        secrets.push(results[0]["tokens"][0].as_str().unwrap().to_owned());
    }
    let stored = redis.contents().await;
    assert_eq!(stored.len(), 2);
    for secret in &secrets {
        for (key, content) in &stored {
            let name = key.strip_prefix("tower-oauth2-client:").unwrap();
            let all = [name.as_bytes(), content].concat();
            let found = all
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {key}");
        }
    }

    // Each key gets the content of the other one.
    let [one, other] = [&stored[0].0, &stored[1].0];
    for words in [
        ["RENAME", one, "x"],
        ["RENAME", other, one],
        ["RENAME", "x", other],
    ] {
        redis.command(&words).await;
    }
    let before = authority.server.token_requests();
    let results = run(vec![Replica::start(&settings).await]).await;
    assert_no_errors(&results);
    assert_eq!(authority.server.token_requests(), before + 1);
}
