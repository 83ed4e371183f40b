//! The cost of a call through one layer on 1, 2 and 4 threads, in CPU time per thread. CPU time is meaningful even if the machine has
//! fewer cores than threads.
//!
//! `README.md` in this folder explains how to run it and how to read the results.

mod support;

use std::{future::ready, time::Duration};

use http::Request;
use tower::{Layer, Service, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, TokenResponse,
    TokenSource, TokenType,
};

use self::support::{
    Case, Cost, Result, bench,
    calls::{API, Body, answer, call_once, on_threads_by},
    thread_time,
};

const TOKEN_LENGTH: usize = 800;
const CALLS_PER_ROUND: u32 = 4_000;
const THREADS: [usize; 3] = [1, 2, 4];

const BARE: &str = "bare";
const FIXED: &str = "fixed token";
const ONE_LAYER: &str = "one layer";
const CLONES: &str = "clones of the layer";
const CLONED_SERVICE: &str = "one service, cloned per request";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let token = "x".repeat(TOKEN_LENGTH);
    let source = source(&token)?;
    runtime.block_on(source.warm_up())?;

    let inner = service_fn(answer);
    let fixed = AddAuthorizationLayer::bearer(&token).as_sensitive(true);
    let ours = AddAccessTokenLayer::new(source).origin(API)?;
    let mut cases = Vec::new();
    for threads in THREADS {
        add(&mut cases, BARE, threads, move || caller(inner));
        let fixed = fixed.clone();
        add(&mut cases, FIXED, threads, move || {
            caller(fixed.layer(inner))
        });
        let layer = ours.clone();
        add(&mut cases, ONE_LAYER, threads, move || {
            caller(layer.layer(inner))
        });
        let layer = ours.clone();
        add(&mut cases, CLONES, threads, move || {
            caller(layer.clone().layer(inner))
        });
        let service = ours.layer(inner);
        add(&mut cases, CLONED_SERVICE, threads, move || {
            let service = service.clone();
            move || call_once(&mut service.clone())
        });
    }
    bench(&cases)
}

fn caller<S: Service<Request<Body>>>(mut service: S) -> impl FnMut() {
    move || call_once(&mut service)
}

/// Adds a case that is compared with the same case on one thread.
fn add<C: FnMut() + Send>(
    cases: &mut Vec<Case>,
    name: &str,
    threads: usize,
    make: impl Fn() -> C + 'static,
) {
    let of = |name: &str, threads: usize| format!("{name}, {threads} threads");
    let case = Case::new(of(name, threads), CALLS_PER_ROUND, move |calls| {
        on_threads_by(threads, &make, |call| cost(calls, call))
    });
    cases.push(case.over(of(BARE, threads)).relative_to(of(name, 1)));
}

/// Measures the cost of `calls` calls in CPU time.
fn cost(calls: u32, call: &mut dyn FnMut()) -> Cost {
    let mut time = Duration::ZERO;
    let counted = allocation_counter::measure(|| {
        let start = thread_time();
        (0..calls).for_each(|_| call());
        time = thread_time() - start;
    });
    Cost {
        nanos: time.as_nanos() as f64 / f64::from(calls),
        allocations: counted.count_total as f64 / f64::from(calls),
    }
}

fn source(token: &str) -> Result<TokenSource> {
    let token = AccessToken::new(token, TokenType::BEARER)?;
    let response = TokenResponse::builder(token)
        .expires_in(Duration::from_secs(3600))
        .build();
    let endpoint = service_fn(move |_: TokenRequest| ready(Ok::<_, BoxError>(response.clone())));
    Ok(TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1")))
}
