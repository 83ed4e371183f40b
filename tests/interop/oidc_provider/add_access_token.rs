//! The layer with an API that introspects each token.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::time;
use tower::ServiceBuilder;
use tower_oauth2_client::{
    AddAccessTokenLayer, TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest,
    add_access_token::CloneBody,
};

use super::{basic, endpoint, instance::Instance, post, uri};
use crate::support::{API_URI, Seen, all_done, api, http, jwt_api, keep_calling};

const SHORT: &str = "https://short.example/";
const TASKS: usize = 10;
const CALLS: u32 = 40;
const PACE: Duration = Duration::from_millis(125);

#[tokio::test]
async fn no_call_fails_while_tokens_expire_and_one_is_revoked() {
    let seen = Seen::default();
    // The server counts whole seconds, so a token of two seconds may expire after little more than one, before it is stale.
    let tokens = TokenCache::new(endpoint(basic()));
    let source = tokens.source(TokenRequest::client_credentials().resource(SHORT));
    let api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source.clone())
                .origin(API_URI)
                .unwrap()
                .resend(CloneBody),
        )
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

    // Over five seconds, tokens are valid for one or two seconds, and one was revoked. At most one is fetched per second.
    let number = seen.len();
    assert!((3..=8).contains(&number), "{number} tokens");
    assert!(seen.contains(live.expose_secret()));
}

/// The API uses only the server's keys and does not contact the server.
#[tokio::test]
async fn no_call_fails_at_an_api_that_validates_two_second_jwts() {
    const API: &str = "https://short-jwt.example/";
    let keys = http().get(uri("/jwks").parse().unwrap()).await.unwrap();
    let keys = keys.into_body().collect().await.unwrap().to_bytes();
    let seen = Seen::default();
    let tokens = TokenCache::new(endpoint(basic()));
    let request = TokenRequest::client_credentials()
        .resource(API)
        .scope("api:read");
    let api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(tokens.source(request))
                .origin(API_URI)
                .unwrap()
                .resend(CloneBody),
        )
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
async fn no_call_fails_while_the_server_restarts() {
    let mut server = Instance::start().await;
    let seen = Seen::default();
    let endpoint = TokenEndpoint::new(http(), server.uri("/token"), basic());
    let source = TokenCache::new(endpoint.clone()).source(TokenRequest::client_credentials());
    let elsewhere = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    let api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source.clone())
                .origin(API_URI)
                .unwrap()
                .resend(CloneBody),
        )
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

    // The server forgot its tokens. The first refused call caused the fetch of another token, and only one.
    assert_ne!(source.token().await.unwrap(), before);
    assert_eq!(seen.len(), 2);
    // The source whose fetch failed recovers without any intervention.
    elsewhere.token().await.unwrap();
}
