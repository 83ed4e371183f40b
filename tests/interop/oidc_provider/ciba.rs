//! Backchannel authentication (CIBA), with a user whom the server stages: see `decide` in `server.mjs`.

use std::time::Duration;

use tower::ServiceExt as _;
use tower_oauth2_client::{
    BackchannelAuthenticationRequest, ClientAuthentication, ErrorCode, TokenCache, TokenEndpoint,
    TokenErrorKind,
};

use super::client_of;
use crate::{
    setting,
    support::{Http, SECRET, claims, http},
};

fn discover() -> TokenEndpoint<Http> {
    let client = ClientAuthentication::client_secret_basic("ciba", SECRET);
    TokenEndpoint::discover(http(), setting("OIDC_PROVIDER"), client)
}

fn request(user: &str) -> BackchannelAuthenticationRequest {
    BackchannelAuthenticationRequest::login_hint(user)
        .scope("openid offline_access")
        .binding_message("W4SCT")
        .requested_expiry(Duration::from_secs(40))
}

#[tokio::test]
async fn user_agrees_and_the_source_continues_with_refresh_tokens() {
    let endpoint = discover();
    let asked = endpoint
        .backchannel_authentication()
        .oneshot(request("alice"));
    let asked = asked.await.unwrap();
    assert_eq!(asked.expires_in(), Some(Duration::from_secs(40)));

    let source = TokenCache::new(endpoint).source(asked.token_request());
    source.wait_for_user().await.unwrap();
    let first = source.token().await.unwrap();
    assert_eq!(client_of(first.expose_secret()).await, "ciba");
    let second = source.renew().await.unwrap();
    assert_ne!(first.expose_secret(), second.expose_secret());
}

#[tokio::test]
async fn client_waits_without_a_cache() {
    let endpoint = discover();
    let asked = endpoint
        .backchannel_authentication()
        .oneshot(request("alice"));
    let response = asked.await.unwrap().wait_for_user(endpoint).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(id_token["sub"], "alice");
}

#[tokio::test]
async fn user_who_refuses_ends_the_wait() {
    let endpoint = discover();
    let asked = endpoint
        .backchannel_authentication()
        .oneshot(request("mallory"));
    let error = asked.await.unwrap().wait_for_user(endpoint).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::ACCESS_DENIED
    );
}

#[tokio::test]
async fn unknown_user_and_bad_message_are_refused() {
    let bad_message = BackchannelAuthenticationRequest::login_hint("alice")
        .scope("openid")
        .binding_message("x".repeat(200));
    for (request, expected) in [
        (request("unknown"), ErrorCode::UNKNOWN_USER_ID),
        (bad_message, ErrorCode::INVALID_BINDING_MESSAGE),
    ] {
        let error = discover()
            .backchannel_authentication()
            .oneshot(request)
            .await;
        let error = error.unwrap_err();
        assert_eq!(*error.error_response().unwrap().code(), expected);
    }
}
