//! Sources over one-time credentials, and the layer with an API that introspects each token.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use tokio::time;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ErrorCode, TokenCache, TokenErrorKind, TokenRequest, TokenSource,
    add_access_token::CloneBody,
};

use super::{
    Alice, ROTATING, SHORT, STEADY, basic, client_credentials, code_request, endpoint, http,
    page_of, password, post, refresh, refused_without_a_body, start_device, uri, web,
};
use crate::support::{API_URI, Seen, all_done, api, keep_calling};

// 4 × 8 calls per second, each with an introspection. This server can answer about 50 requests per second.
const TASKS: usize = 4;
const CALLS: u32 = 40;
const PACE: Duration = Duration::from_millis(125);

#[tokio::test]
async fn no_call_fails_while_tokens_expire_and_one_is_revoked() {
    let seen = Seen::default();
    // The server counts whole seconds, so a token of two seconds may expire after little more than one, before it is stale.
    let tokens = TokenCache::new(endpoint(SHORT, basic()));
    let source = tokens.source(client_credentials());
    let api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source.clone())
                .origin(API_URI)
                .unwrap()
                .resend(CloneBody),
        )
        .service(api(http(), uri(SHORT, "/introspect/"), seen.clone()));

    let calling = keep_calling(&api, TASKS, CALLS, PACE);
    time::sleep(PACE * (CALLS / 2)).await;
    let live = source.token().await.unwrap();
    let token = [("token", live.expose_secret())];
    post(SHORT, "/revoke/", "basic", &token).await;
    all_done(calling).await;

    // Over five seconds, tokens are renewed after 0.6 seconds or a little later, at most one per second.
    let number = seen.len();
    assert!((3..=8).contains(&number), "{number} tokens");
    assert_ne!(source.token().await.unwrap(), live);
}

#[tokio::test]
async fn device_code_source_waits_for_the_user_and_continues_with_refresh_tokens() {
    let started = start_device(SHORT).await;
    let device_code = started["device_code"].as_str().unwrap();
    let (source, refresh_tokens) = source(SHORT, TokenRequest::device_code(device_code));

    let error = source.token().await.unwrap_err();
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::AUTHORIZATION_PENDING
    );
    Alice::sign_in().await.agree(page_of(&started)).await;

    let first = wait_for_token(&source).await;
    assert_eq!(refresh_tokens.lock().unwrap().len(), 1);
    // The device code is used up. The next tokens are fetched with the refresh token.
    let second = source.renew().await.unwrap();
    let third = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert_ne!(second, third);
    last_refresh_token_is_valid(SHORT, &refresh_tokens).await;
}

#[tokio::test]
async fn code_source_continues_with_refresh_tokens() {
    let code = Alice::sign_in().await.code(SHORT).await;
    let (source, refresh_tokens) = source(SHORT, code_request(&code));

    let first = source.token().await.unwrap();
    let second = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(refresh_tokens.lock().unwrap().len(), 2);
    last_refresh_token_is_valid(SHORT, &refresh_tokens).await;
}

#[tokio::test]
async fn refresh_token_source_follows_the_rotation() {
    let signed_in = endpoint(ROTATING, web()).oneshot(password()).await.unwrap();
    let (source, refresh_tokens) = source(ROTATING, refresh(&signed_in));

    source.token().await.unwrap();
    source.renew().await.unwrap();
    let live = source.renew().await.unwrap();
    assert_eq!(refresh_tokens.lock().unwrap().len(), 3);

    // Somebody uses the first refresh token again, so the server revokes the family. It does not say why.
    let stolen = endpoint(ROTATING, web()).oneshot(refresh(&signed_in)).await;
    refused_without_a_body(stolen, StatusCode::BAD_REQUEST);
    let error = source.renew().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert_eq!(error.status(), Some(StatusCode::BAD_REQUEST));
    assert_eq!(source.token().await.unwrap(), live);
}

#[tokio::test]
async fn refresh_token_source_keeps_a_token_that_does_not_rotate() {
    let signed_in = endpoint(STEADY, web()).oneshot(password()).await.unwrap();
    let (source, refresh_tokens) = source(STEADY, refresh(&signed_in));

    let first = source.token().await.unwrap();
    let second = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert!(refresh_tokens.lock().unwrap().is_empty());
}

#[tokio::test]
async fn source_with_an_unknown_device_code_fails_permanently() {
    let (source, _) = source(ROTATING, TokenRequest::device_code("unknown"));

    for _ in 0..2 {
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        assert_eq!(
            *error.error_response().unwrap().code(),
            ErrorCode::ACCESS_DENIED
        );
    }
}

/// The refresh tokens passed to `on_refresh_token`.
type RefreshTokens = Arc<Mutex<Vec<String>>>;

fn source(issuer: &str, request: TokenRequest) -> (TokenSource, RefreshTokens) {
    let refresh_tokens = RefreshTokens::default();
    let recorded = refresh_tokens.clone();
    let grant_type = request.grant_type().to_owned();
    let source = TokenCache::builder(endpoint(issuer, web()))
        .on_refresh_token(move |request, token| {
            assert_eq!(request.grant_type(), grant_type);
            recorded
                .lock()
                .unwrap()
                .push(token.expose_secret().to_owned());
            async {}
        })
        .build()
        .source(request);
    (source, refresh_tokens)
}

/// Requests a token repeatedly until the user has decided. The cache limits the rate of token requests.
async fn wait_for_token(source: &TokenSource) -> tower_oauth2_client::IssuedToken {
    let asking = async {
        loop {
            match source.token().await {
                Ok(token) => return token,
                Err(error) => {
                    let code = error.error_response().unwrap().code().clone();
                    assert_eq!(code, ErrorCode::AUTHORIZATION_PENDING);
                }
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap()
}

async fn last_refresh_token_is_valid(issuer: &str, refresh_tokens: &RefreshTokens) {
    let refresh_tokens = refresh_tokens.lock().unwrap().clone();
    let last = refresh_tokens.last().unwrap();
    assert_eq!(
        refresh_tokens.iter().filter(|token| *token == last).count(),
        1
    );
    let request = TokenRequest::refresh_token(&**last);
    endpoint(issuer, web()).oneshot(request).await.unwrap();
}
