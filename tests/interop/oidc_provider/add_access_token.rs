//! The layer before an API that asks the server about each token.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::time;
use tower::ServiceBuilder;
use tower_oauth2_client::{
    AddAccessTokenLayer, TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest,
    add_access_token::CloneBody,
};

use super::{basic, endpoint, instance::Instance, post, uri};
use crate::support::{Seen, all_done, api, http, jwt_api, keep_calling};

const SHORT: &str = "https://short.example/";
const TASKS: usize = 10;
const CALLS: u32 = 40;
const PACE: Duration = Duration::from_millis(125);

#[tokio::test]
async fn no_call_is_lost_while_tokens_expire_and_one_is_revoked() {
    let seen = Seen::default();
    // The server counts in whole seconds: of two, one is certain. So some tokens end before they are stale.
    let tokens = TokenCache::new(endpoint(basic()));
    let source = tokens.source(TokenRequest::client_credentials().resource(SHORT));
    let api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(source.clone()).resend(CloneBody))
        .service(api(http(), uri("/token/introspection"), seen.clone()));

    let calling = keep_calling(&api, TASKS, CALLS, PACE);
    time::sleep(PACE * (CALLS / 2)).await;
    let live = source.token().await.unwrap();
    post(
        "/token/revocation",
        "basic",
        &[("token", live.expose_secret())],
    )
    .await;
    all_done(calling).await;

    // Five seconds of tokens that live for one or two, and one that was revoked; at most one in a second.
    let number = seen.len();
    assert!((3..=8).contains(&number), "{number} tokens");
    assert!(seen.contains(live.expose_secret()));
}

/// The API knows nothing of the server but its keys.
#[tokio::test]
async fn no_call_is_lost_at_an_api_that_validates_jwts_of_two_seconds() {
    const API: &str = "https://short-jwt.example/";
    let keys = http().get(uri("/jwks").parse().unwrap()).await.unwrap();
    let keys = keys.into_body().collect().await.unwrap().to_bytes();
    let seen = Seen::default();
    let tokens = TokenCache::new(endpoint(basic()));
    let request = TokenRequest::client_credentials()
        .resource(API)
        .scope("api:read");
    let api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(tokens.source(request)).resend(CloneBody))
        .service(jwt_api(
            serde_json::from_slice(&keys).unwrap(),
            API,
            seen.clone(),
        ));

    all_done(keep_calling(&api, TASKS, CALLS, PACE)).await;
    let number = seen.len();
    assert!((3..=7).contains(&number), "{number} tokens");
}

#[tokio::test]
async fn no_call_is_lost_while_the_server_is_restarted() {
    let mut server = Instance::start().await;
    let seen = Seen::default();
    let endpoint = TokenEndpoint::new(http(), server.uri("/token").parse().unwrap(), basic());
    let source = TokenCache::new(endpoint.clone()).source(TokenRequest::client_credentials());
    let elsewhere = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    let api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(source.clone()).resend(CloneBody))
        .service(api(
            http(),
            server.uri("/token/introspection"),
            seen.clone(),
        ));
    let before = source.token().await.unwrap();

    let calling = keep_calling(&api, TASKS, CALLS, PACE);
    time::sleep(PACE * 4).await;
    server.stop().await;
    let error = elsewhere.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);
    assert!(error.is_transient());
    server.start_again().await;
    all_done(calling).await;
    all_done(keep_calling(&api, TASKS, 4, PACE)).await;

    // The server forgot its tokens: the first call that it refused brought another, and only one.
    assert_ne!(source.token().await.unwrap(), before);
    assert_eq!(seen.len(), 2);
    // Who found nobody there is served without doing anything for it.
    elsewhere.token().await.unwrap();
}
