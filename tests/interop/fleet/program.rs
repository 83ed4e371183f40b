//! What the process of a [`Replica`](super::replica::Replica) does: it is this very program, started again.
#![allow(clippy::disallowed_methods, reason = "a replica measures real time")]

use std::{env, io, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time};
use tower::{Service as _, ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, RefreshWindow, TokenCache, TokenEndpoint,
    TokenRequest,
    add_access_token::CloneBody,
    test_util::ManualClock,
    token_store::{ShareTokens, StoreKey, StoreKeys},
};

use super::store;
use crate::support::http;

pub(super) const SETTINGS: &str = "FLEET_REPLICA";
pub(super) const MARK: &str = "FLEET ";
const KEY: &str = "hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=";

pub(super) fn keys() -> StoreKeys {
    StoreKeys::new("orders", StoreKey::from_base64(KEY).unwrap())
}

/// Returns a clock that differs from the right time by this many seconds.
pub(super) fn wrong_clock(seconds: i64) -> ManualClock {
    let clock = ManualClock::new();
    let by = Duration::from_secs(seconds.unsigned_abs());
    match seconds < 0 {
        true => clock.set_wall_back(by),
        false => clock.suspend(by),
    }
    clock
}

fn say(value: &Value) {
    println!("{MARK}{value}");
}

/// Does nothing unless [`Replica`](super::replica::Replica) has started this program.
#[tokio::test]
async fn replica() {
    let Ok(settings) = env::var(SETTINGS) else {
        return;
    };
    let settings: Value = serde_json::from_str(&settings).unwrap();
    let text = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str, default| settings[name].as_u64().unwrap_or(default);

    let client = ClientAuthentication::client_secret_basic(text("client"), text("secret"));
    let endpoint = TokenEndpoint::new(http(), text("token"), client);
    let lease = Duration::from_millis(number("lease_ms", 10_000));
    let mut tokens = TokenCache::builder(endpoint.clone());
    if settings["alone"] != true {
        let store = store::open(&settings["redis"]);
        tokens = tokens.share(ShareTokens::new(store, keys(), &endpoint).lease(lease));
    }
    if let Some(wrong) = settings["clock_skew_s"].as_i64() {
        tokens = tokens.clock(wrong_clock(wrong));
    }
    if let Some(first) = settings["first_renewal"].as_f64() {
        tokens = tokens.refresh_window(RefreshWindow::new().first(first..=first));
    }
    let tokens = tokens.build();
    let request = match settings["refresh_token"].as_str() {
        Some(first) => TokenRequest::refresh_token(first).sign_in("session 7"),
        None => TokenRequest::client_credentials(),
    };
    let request = match settings["resource"].as_str() {
        Some(resource) => request.resource(resource),
        None => request.scope("api1"),
    };
    let source = tokens.source(request);

    say(&json!("ready"));
    let ended = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin()));
    ended.await.unwrap().unwrap();

    let mut callers = JoinSet::new();
    for _ in 0..number("callers", 1) {
        let source = source.clone();
        callers.spawn(async move { source.token().await });
    }
    let (mut errors, mut kinds) = (Vec::new(), Vec::new());
    let mut found = std::collections::BTreeSet::new();
    while let Some(token) = callers.join_next().await {
        match token.unwrap() {
            Ok(token) => drop(found.insert(token.expose_secret().to_owned())),
            Err(error) => {
                errors.push(format!("{error:#}"));
                kinds.push(format!("{:?}", error.kind()));
            }
        }
    }
    let mut result = json!({ "tokens": found, "errors": errors, "kinds": kinds });

    let run = Duration::from_millis(number("run_ms", 0));
    if !run.is_zero() {
        let api = text("api");
        let layer = AddAccessTokenLayer::new(source.clone())
            .origin(&api)
            .unwrap();
        let mut service = ServiceBuilder::new()
            .layer(layer.resend(CloneBody))
            .service(http());
        let (mut calls, mut good, mut failed) = (0_u64, 0_u64, Vec::new());
        let begun = time::Instant::now();
        while begun.elapsed() < run {
            let call = Request::get(&api).body(Full::<Bytes>::default()).unwrap();
            calls += 1;
            let why = match service.ready().await.unwrap().call(call).await {
                Ok(response) if response.status() == StatusCode::OK => None,
                Ok(response) => Some(response.status().to_string()),
                Err(error) => Some(error.to_string()),
            };
            match why {
                None => good += 1,
                Some(why) => failed.push(format!("after {:?}: {why}", begun.elapsed())),
            }
            time::sleep(Duration::from_millis(number("pace_ms", 20))).await;
        }
        result["calls"] = json!(calls);
        result["good"] = json!(good);
        result["failed"] = json!(failed);
    }
    say(&result);
}
