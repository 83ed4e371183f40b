//! The cost per request while the token is fresh, with every check of the layer enabled, compared with tower-http's fixed header.
//!
//! `README.md` in this folder explains how to run it and how to read the results.

mod support;

use std::{future::ready, time::Duration};

use http::Request;
use tower::{Layer, Service, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_oauth2_client::{
    AccessToken, AddAccessTokenLayer, BoxError, TokenCache, TokenRequest, TokenResponse,
    TokenSource, TokenType, add_access_token::CloneBody,
};

use self::support::{
    Case, Result, bench,
    calls::{API, Body, Usage, answer},
};

const TOKEN_LENGTH: usize = 800;
const CALLS_PER_ROUND: u32 = 4_000;

const BARE: &str = "bare";
const FLOOR: &str = "fixed token";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let token = "x".repeat(TOKEN_LENGTH);
    let source = source(&token)?;
    runtime.block_on(source.warm_up())?;
    bench(&cases(&token, source)?)
}

fn cases(token: &str, source: TokenSource) -> Result<Vec<Case>> {
    let inner = service_fn(answer);
    let mut cases = Vec::new();
    add_cases(&mut cases, BARE, inner);
    let fixed = AddAuthorizationLayer::bearer(token).as_sensitive(true);
    add_cases(&mut cases, FLOOR, fixed.layer(inner));
    let ours = AddAccessTokenLayer::new(source).origin(API)?;
    add_cases(&mut cases, "access token", ours.layer(inner));
    let resending = ours.resend(CloneBody);
    add_cases(&mut cases, "access token, resend", resending.layer(inner));
    Ok(cases)
}

fn add_cases<S>(cases: &mut Vec<Case>, name: &'static str, service: S)
where
    S: Service<Request<Body>> + Clone + Send + 'static,
{
    let of = |service: &str, usage: Usage| format!("{service}, {}", usage.name());
    cases.extend(Usage::ALL.map(|usage| {
        let service = service.clone();
        Case::new(of(name, usage), CALLS_PER_ROUND, move |calls| {
            usage.run(&service, calls)
        })
        .over(of(BARE, usage))
        .relative_to(of(FLOOR, usage))
    }));
}

fn source(token: &str) -> Result<TokenSource> {
    let token = AccessToken::new(token, TokenType::BEARER)?;
    let response = TokenResponse::builder(token)
        .expires_in(Duration::from_secs(3600))
        .build();
    let endpoint = service_fn(move |_: TokenRequest| ready(Ok::<_, BoxError>(response.clone())));
    Ok(TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1")))
}
