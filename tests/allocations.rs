//! Counts allocations per call, on top of the bare service, and compares them with `benches/budget`.
#![cfg(feature = "test-util")]

#[path = "../benches/support/mod.rs"]
mod support;

use std::{
    future::{poll_fn, ready},
    time::Duration,
};

use http::{HeaderName, Request, header::PROXY_AUTHORIZATION, request::Parts};
use tower::{Layer, Service, service_fn};
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint,
    TokenRequest, TokenResponse, TokenSource, TokenType,
    add_access_token::{CloneBody, StepUp},
};

use self::support::{
    calls::{API, Body, Usage, answer, now},
    time, token,
};

const BUDGET: &str = include_str!("../benches/budget");
const CALLS: u32 = 100;

#[tokio::test]
async fn a_request_with_a_fresh_token_adds_no_allocations() {
    let layer = AddAccessTokenLayer::new(source().await)
        .origin(API)
        .unwrap();
    let service = layer.layer(service_fn(answer));
    for usage in [Usage::OneThread, Usage::ClonePerRequest] {
        let name = format!("access token, {}", usage.name());
        assert_eq!(budget(&name), 0.0);
        assert_eq!(added_allocations(&service, usage), 0.0, "{name}");
    }
}

/// The value under another scheme is made once for each token.
#[tokio::test]
async fn a_chosen_header_and_chosen_refusals_add_no_allocations() {
    let layer = || async {
        let layer = AddAccessTokenLayer::new(source().await);
        layer.origin(API).unwrap()
    };
    let name = HeaderName::from_static("x-api-key");
    for layer in [
        layer().await.header(name.clone()),
        layer().await.header(PROXY_AUTHORIZATION),
        layer().await.header(name).without_scheme(),
        layer().await.scheme("Token").unwrap(),
        layer().await.refused_when(|head| head.status == 403),
        layer().await.step_up(StepUp::new()),
    ] {
        let service = layer.layer(service_fn(answer));
        for usage in [Usage::OneThread, Usage::ClonePerRequest] {
            let added = added_allocations(&service, usage);
            assert_eq!(added, 0.0, "{layer:?}, {}", usage.name());
        }
    }
}

#[tokio::test]
async fn a_resendable_request_allocates_only_its_copy() {
    let layer = AddAccessTokenLayer::new(source().await)
        .origin(API)
        .unwrap();
    let layer = layer.resend(CloneBody);
    let service = layer.layer(service_fn(answer));
    for usage in [Usage::OneThread, Usage::ClonePerRequest] {
        let name = format!("access token, resend, {}", usage.name());
        assert_eq!(added_allocations(&service, usage), budget(&name), "{name}");
    }
}

#[tokio::test]
async fn returning_a_fresh_token_allocates_nothing() {
    let source = source().await;
    let cost = time(CALLS, || drop(now(source.token()).unwrap()));
    assert_eq!(cost.allocations, 0.0);
    let cost = time(CALLS, || {
        let token = source.peek().unwrap();
        assert!(token.expires_in().is_some() && token.expires_at() == token.clone().expires_at());
    });
    assert_eq!(cost.allocations, 0.0);
}

#[tokio::test]
async fn a_source_by_a_key_and_a_layer_over_it_add_no_allocations() {
    let cache = cache();
    let sources = cache.sources_by(|tenant: &String| {
        TokenRequest::client_credentials().parameter("tenant", tenant.as_str())
    });
    sources.get("blue").warm_up().await.unwrap();
    let cost = time(CALLS, || drop(now(sources.get("blue").token()).unwrap()));
    assert_eq!(cost.allocations, 0.0);

    let layer = AddAccessTokenLayer::per_request(cache).origin(API).unwrap();
    let layer = layer.token_source_for(move |_: &Parts| sources.get("blue"));
    let service = layer.layer(service_fn(answer));
    for usage in [Usage::OneThread, Usage::ClonePerRequest] {
        let added = added_allocations(&service, usage);
        assert_eq!(added, 0.0, "{}", usage.name());
    }
}

#[test]
fn a_token_request_allocates_exactly_its_budget() {
    let endpoint = TokenEndpoint::new(
        service_fn(token::endpoint(token::body())),
        token::URI,
        ClientAuthentication::client_secret_basic(token::CLIENT_ID, token::CLIENT_SECRET),
    );
    let fetch = |request: TokenRequest| {
        let mut endpoint = endpoint.clone();
        now(poll_fn(|cx| endpoint.poll_ready(cx))).unwrap();
        drop(now(endpoint.call(request)).unwrap());
    };
    let request = || TokenRequest::client_credentials().scope(token::SCOPE);

    let reused = request();
    let cost = time(CALLS, || fetch(reused.clone()));
    assert_eq!(cost.allocations, budget("token request"));
    let cost = time(CALLS, || fetch(request()));
    assert_eq!(cost.allocations, budget("token request, made each time"));
}

/// Returns the last number in the line of a case.
fn budget(case: &str) -> f64 {
    let numbers = BUDGET
        .lines()
        .find_map(|line| line.strip_prefix(case)?.strip_prefix("  "));
    let numbers = numbers.unwrap_or_else(|| panic!("no line for {case}"));
    numbers.split_whitespace().last().unwrap().parse().unwrap()
}

fn added_allocations<S>(service: &S, usage: Usage) -> f64
where
    S: Service<Request<Body>> + Clone + Send,
{
    let bare = usage.run(&service_fn(answer), CALLS);
    usage.run(service, CALLS).allocations - bare.allocations
}

fn cache() -> TokenCache {
    let token = AccessToken::new("x".repeat(800), TokenType::BEARER).unwrap();
    let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
    let response = response.build();
    let endpoint = service_fn(move |_: TokenRequest| ready(Ok::<_, BoxError>(response.clone())));
    TokenCache::new(endpoint)
}

async fn source() -> TokenSource {
    let source = cache().source(TokenRequest::client_credentials());
    source.warm_up().await.unwrap();
    source
}
