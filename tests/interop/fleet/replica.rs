//! An instance of a service, as a process of its own: this very program, started again by [`Replica`].
#![allow(clippy::disallowed_methods, reason = "a replica measures real time")]

use std::{env, io, process::Stdio, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStdout,
    task::JoinSet,
    time,
};
use tower::{Service as _, ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::CloneBody,
    token_store::{RedisTokenStore, ShareTokens, StoreKey, StoreKeys},
};

use crate::support::http;

const SETTINGS: &str = "FLEET_REPLICA";
const MARK: &str = "FLEET ";
const KEY: &str = "hnxzyZtHJN4e5ntXCbUoPk7H8lrPGlmYW+1IZ0yYtYk=";

pub(super) fn keys() -> StoreKeys {
    StoreKeys::new("orders", StoreKey::from_base64(KEY).unwrap())
}

/// A process. It is killed when it is dropped.
pub(super) struct Replica {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    /// Starts a process, which waits until [`go`](Self::go).
    pub(super) async fn start(settings: &Value) -> Self {
        let mut process = tokio::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "fleet::replica::replica", "--nocapture"])
            .env(SETTINGS, settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let mut replica = Self {
            process,
            lines: BufReader::new(stdout).lines(),
        };
        assert_eq!(replica.next().await, "ready");
        replica
    }

    pub(super) fn go(&mut self) {
        drop(self.process.stdin.take());
    }

    pub(super) async fn result(&mut self) -> Value {
        self.next().await
    }

    /// `kill -9`
    pub(super) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    async fn next(&mut self) -> Value {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some((_, said)) = line.split_once(MARK) {
                return serde_json::from_str(said).unwrap();
            }
        }
        panic!("the replica has ended");
    }
}

fn say(value: &Value) {
    println!("{MARK}{value}");
}

/// Does nothing unless [`Replica`] has started this program.
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
    let store = RedisTokenStore::open(text("redis")).unwrap();
    let lease = Duration::from_millis(number("lease_ms", 10_000));
    let tokens = TokenCache::builder(endpoint.clone());
    let tokens = match settings["alone"].as_bool() {
        Some(true) => tokens,
        _ => tokens.share(ShareTokens::new(store, keys(), &endpoint).lease(lease)),
    };
    let tokens = tokens.build();
    let request = match settings["refresh_token"].as_str() {
        Some(first) => TokenRequest::refresh_token(first),
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
    let mut errors = Vec::new();
    let mut found = std::collections::BTreeSet::new();
    while let Some(token) = callers.join_next().await {
        match token.unwrap() {
            Ok(token) => drop(found.insert(token.expose_secret().to_owned())),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    let mut result = json!({ "tokens": found, "errors": errors });

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
        let end = time::Instant::now() + run;
        while time::Instant::now() < end {
            let call = Request::get(&api).body(Full::<Bytes>::default()).unwrap();
            calls += 1;
            match service.ready().await.unwrap().call(call).await {
                Ok(response) if response.status() == StatusCode::OK => good += 1,
                Ok(response) => failed.push(response.status().to_string()),
                Err(error) => failed.push(error.to_string()),
            }
            time::sleep(Duration::from_millis(number("pace_ms", 20))).await;
        }
        result["calls"] = json!(calls);
        result["good"] = json!(good);
        result["failed"] = json!(failed);
    }
    say(&result);
}
