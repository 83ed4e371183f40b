//! What happens to a fleet when the holder of the lease is killed, or loses it, in the middle of a token request.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time;
use tower_oauth2_client::test_util::Failure;

use super::{
    assert_all_calls_are_good, assert_each_is_spent_once, assert_no_errors,
    authority::{Authority, Habit},
    replica::Replica,
    replicas, run, settings, with,
};
use crate::redis::server::Server;

const LEASE: Duration = Duration::from_secs(3);

/// Kills the holder once its request has arrived, and returns what all others found.
///
/// The next request must come when the lease has ended, and not before.
async fn kill_the_holder(authority: &Authority, settings: &Value) -> Vec<Value> {
    let settings = with(
        settings.clone(),
        &json!({ "lease_ms": LEASE.as_millis() as u64 }),
    );
    let mut holder = Replica::start(&settings).await;
    let others = replicas(&settings).await;
    holder.go();
    authority.received(1).await;
    let running = tokio::spawn(run(others));
    time::sleep(Duration::from_millis(500)).await;
    holder.kill().await;
    // It is renewed three times in its time.
    let until_earliest_end = time::sleep(LEASE * 2 / 3 - Duration::from_millis(300));
    tokio::select! {
        () = until_earliest_end => {}
        () = authority.received(2) => panic!("the lease has not ended"),
    }
    let next = time::timeout(LEASE, authority.received(2)).await;
    next.expect("the lease ends");
    running.await.unwrap()
}

#[tokio::test]
async fn fleet_goes_on_when_the_holder_is_killed_in_the_middle_of_its_request() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority.server.fail_next(Failure::stall());
    let results = kill_the_holder(&authority, &settings(&authority, redis.url())).await;
    assert_no_errors(&results);
    assert_eq!(authority.requests(), 2);
}

/// The server did not process the request of the lost holder, or it accepts the same refresh token again for a while.
#[tokio::test]
async fn fleet_goes_on_if_the_refresh_token_of_a_lost_holder_is_accepted_again() {
    tokio::join!(goes_on(false), goes_on(true));
}

async fn goes_on(is_processed: bool) {
    let redis = Server::start().await;
    let lifetime = Duration::from_secs(2);
    let habit = match is_processed {
        true => Habit::GracePeriod,
        false => Habit::Usual,
    };
    let authority = Authority::with(habit, lifetime).await;
    match is_processed {
        true => authority.lose_next_answer(),
        false => authority.server.fail_next(Failure::stall()),
    }
    let first = authority.server.issue_refresh_token("client", "api1");
    let more = json!({ "refresh_token": first, "run_ms": 5_000 });
    let settings = with(settings(&authority, redis.url()), &more);
    let results = kill_the_holder(&authority, &settings).await;
    assert_all_calls_are_good(&authority, &results);
    for result in &results {
        assert_eq!(result["tokens"], results[0]["tokens"]);
    }
    let spent = authority.spent();
    assert_eq!(
        spent[..2],
        [first.as_str(); 2],
        "there is nothing else to send"
    );
    assert_each_is_spent_once(&spent[1..]);
    assert!((4..=6).contains(&spent.len()), "{spent:?}");
}

/// The server replaced the refresh token, and nobody has the new one.
#[tokio::test]
async fn sign_in_ends_after_one_more_request_if_the_refresh_token_of_a_lost_holder_was_replaced() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority.lose_next_answer();
    let first = authority.server.issue_refresh_token("client", "api1");
    let more = json!({ "refresh_token": first });
    let settings = with(settings(&authority, redis.url()), &more);
    let results = kill_the_holder(&authority, &settings).await;
    for result in &results {
        assert_eq!(result["kinds"], json!(["SignInRequired"]), "{result}");
    }
    assert_eq!(authority.spent(), [first.as_str(); 2]);
}

/// What asynchronous replication leaves: two instances hold the lease until the first of them has renewed it.
#[tokio::test]
async fn loss_of_the_lease_costs_one_more_request_and_the_newer_token_stays() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    authority
        .server
        .fail_next(Failure::delay(Duration::from_secs(3)));
    let settings = settings(&authority, redis.url());
    let mut first = Replica::start(&settings).await;
    first.go();
    authority.received(1).await;
    redis.command(&["FLUSHALL"]).await;
    let second = run(vec![Replica::start(&settings).await]).await;
    let first = first.result().await;
    assert_eq!(authority.requests(), 2);
    assert_eq!(
        first["tokens"], second[0]["tokens"],
        "the newer one is used by both"
    );
    let third = run(vec![Replica::start(&settings).await]).await;
    assert_eq!(third[0]["tokens"], second[0]["tokens"]);
    assert_eq!(authority.requests(), 2);
}
