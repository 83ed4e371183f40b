//! Device logins through `DeviceAuthorizationEndpoint`, with a user who enters the code in a browser.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, DeviceAuthorizationRequest, DeviceAuthorizationResponse, ErrorCode,
    TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest,
};

use super::{client_of, web};
use crate::{
    browser::{Browser, End},
    setting,
    support::{Http, REDIRECT_URI, claims, http},
};

fn discover(client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::discover(http(), setting("OIDC_PROVIDER"), client)
}

async fn begin(endpoint: &TokenEndpoint<Http>) -> DeviceAuthorizationResponse {
    let request = DeviceAuthorizationRequest::new().scope("openid offline_access");
    let device = endpoint.device_authorization().oneshot(request).await;
    let device = device.unwrap();
    assert_eq!(device.expires_in(), Some(Duration::from_secs(60)));
    // This server sends no interval.
    assert_eq!(device.interval(), Duration::from_secs(5));
    device
}

/// Alice opens the page after six seconds, when the first poll has been answered, and enters the code.
fn enter_code(device: &DeviceAuthorizationResponse) -> JoinHandle<()> {
    let (page, code) = (
        device.verification_uri().to_owned(),
        device.user_code().to_owned(),
    );
    tokio::spawn(async move {
        sleep(Duration::from_secs(6)).await;
        let mut browser = Browser::new("alice").entering(&code);
        let end = browser.visit(&page, REDIRECT_URI).await;
        assert!(matches!(end, End::Page(page) if page.contains("Sign-in Success")));
    })
}

#[tokio::test]
async fn user_enters_the_code_and_the_source_continues_with_refresh_tokens() {
    let endpoint = discover(web());
    let device = begin(&endpoint).await;
    let user = enter_code(&device);
    let refresh_tokens = Arc::new(Mutex::new(Vec::new()));
    let stored = refresh_tokens.clone();
    let tokens = TokenCache::builder(endpoint)
        .on_refresh_token(move |_: TokenRequest, token| {
            stored.lock().unwrap().push(token);
            async {}
        })
        .build();

    let source = tokens.source(device.token_request());
    source.wait_for_user().await.unwrap();
    user.await.unwrap();
    let first = source.token().await.unwrap();
    assert_eq!(client_of(first.expose_secret()).await, "web");
    let second = source.renew().await.unwrap();
    assert_ne!(first.expose_secret(), second.expose_secret());
    assert_eq!(refresh_tokens.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn public_client_waits_without_a_cache() {
    let endpoint = discover(ClientAuthentication::none("public"));
    let device = begin(&endpoint).await;
    enter_code(&device);
    let response = device.wait_for_user(endpoint).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    assert_eq!(id_token["sub"], "alice");
    assert!(response.refresh_token().is_some());
}

#[tokio::test]
async fn user_who_aborts_ends_the_wait() {
    let endpoint = discover(web());
    let device = begin(&endpoint).await;
    let page = device.verification_uri_complete().unwrap();
    let mut browser = Browser::new("alice").aborting();
    let end = browser.visit(page, REDIRECT_URI).await;
    assert!(matches!(end, End::Page(page) if page.contains("The Sign-in request was interrupted")));

    let source = TokenCache::new(endpoint.clone()).source(device.token_request());
    for error in [
        source.wait_for_user().await.unwrap_err(),
        device.wait_for_user(endpoint).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        let code = error.error_response().unwrap().code();
        // The server tells it once, and then no longer knows the code.
        assert!([ErrorCode::ACCESS_DENIED, ErrorCode::INVALID_GRANT].contains(code));
    }
}

#[tokio::test]
async fn client_without_the_grant_is_refused() {
    let endpoint = discover(super::basic()).device_authorization();
    let error = endpoint.oneshot(DeviceAuthorizationRequest::new()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
    assert!(!error.is_transient());
}
