//! Sources over what can be used once, and the layer before an API that asks the server about each token.

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
    password, post, refresh, refused_in_silence, start_device, uri, web,
};
use crate::support::{Seen, all_done, api, keep_calling};

// 4 × 8 calls a second, each with an introspection: this server has about 50 answers a second.
const TASKS: usize = 4;
const CALLS: u32 = 40;
const PACE: Duration = Duration::from_millis(125);

#[tokio::test]
async fn no_call_is_lost_while_tokens_expire_and_one_is_revoked() {
    let seen = Seen::default();
    // The server counts in whole seconds: of two, one is certain. So some tokens end before they are stale.
    let tokens = TokenCache::new(endpoint(SHORT, basic()));
    let source = tokens.source(client_credentials());
    let api = ServiceBuilder::new()
        .layer(AddAccessTokenLayer::new(source.clone()).resend(CloneBody))
        .service(api(http(), uri(SHORT, "/introspect/"), seen.clone()));

    let calling = keep_calling(&api, TASKS, CALLS, PACE);
    time::sleep(PACE * (CALLS / 2)).await;
    let live = source.token().await.unwrap();
    let token = [("token", live.expose_secret())];
    post(SHORT, "/revoke/", "basic", &token).await;
    all_done(calling).await;

    // Five seconds of tokens that are renewed after 0.6 seconds or a little later, at most one in a second.
    let number = seen.len();
    assert!((3..=8).contains(&number), "{number} tokens");
    assert_ne!(source.token().await.unwrap(), live);
}

#[tokio::test]
async fn source_over_a_device_code_waits_for_the_user_and_lives_on() {
    let started = start_device(SHORT).await;
    let device_code = started["device_code"].as_str().unwrap();
    let (source, told) = source(SHORT, TokenRequest::device_code(device_code));

    let error = source.token().await.unwrap_err();
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::AuthorizationPending
    );
    Alice::sign_in().await.agree(&started).await;

    let first = token_of_a_patient_caller(&source).await;
    assert_eq!(told.lock().unwrap().len(), 1);
    // The device code is used up; the next tokens come by the refresh token.
    let second = source.renew().await.unwrap();
    let third = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert_ne!(second, third);
    the_last_one_told_is_good(SHORT, &told).await;
}

#[tokio::test]
async fn source_over_a_code_lives_on() {
    let code = Alice::sign_in().await.code(SHORT).await;
    let (source, told) = source(SHORT, code_request(&code));

    let first = source.token().await.unwrap();
    let second = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(told.lock().unwrap().len(), 2);
    the_last_one_told_is_good(SHORT, &told).await;
}

#[tokio::test]
async fn source_over_a_refresh_token_follows_the_rotation() {
    let signed_in = endpoint(ROTATING, web()).oneshot(password()).await.unwrap();
    let (source, told) = source(ROTATING, refresh(&signed_in));

    source.token().await.unwrap();
    source.renew().await.unwrap();
    let live = source.renew().await.unwrap();
    assert_eq!(told.lock().unwrap().len(), 3);

    // Somebody uses the first one again, so that the server ends the family. It does not say why.
    let stolen = endpoint(ROTATING, web()).oneshot(refresh(&signed_in)).await;
    refused_in_silence(stolen, StatusCode::BAD_REQUEST);
    let error = source.renew().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert_eq!(error.status(), Some(StatusCode::BAD_REQUEST));
    assert_eq!(source.token().await.unwrap(), live);
}

#[tokio::test]
async fn source_over_a_refresh_token_keeps_one_that_does_not_rotate() {
    let signed_in = endpoint(STEADY, web()).oneshot(password()).await.unwrap();
    let (source, told) = source(STEADY, refresh(&signed_in));

    let first = source.token().await.unwrap();
    let second = source.renew().await.unwrap();
    assert_ne!(first, second);
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn source_over_a_device_code_that_is_no_good_ends_for_good() {
    let (source, _) = source(ROTATING, TokenRequest::device_code("unknown"));

    for _ in 0..2 {
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        assert_eq!(
            *error.error_response().unwrap().code(),
            ErrorCode::AccessDenied
        );
    }
}

/// The refresh tokens that the owner of a source was told of.
type Told = Arc<Mutex<Vec<String>>>;

fn source(issuer: &str, request: TokenRequest) -> (TokenSource, Told) {
    let told = Told::default();
    let noted = told.clone();
    let grant_type = request.grant_type().to_owned();
    let source = TokenCache::builder(endpoint(issuer, web()))
        .on_refresh_token(move |request, token| {
            assert_eq!(request.grant_type(), grant_type);
            noted.lock().unwrap().push(token.expose_secret().to_owned());
            async {}
        })
        .build()
        .source(request);
    (source, told)
}

/// Asks until the user has decided. The cache keeps the pace.
async fn token_of_a_patient_caller(source: &TokenSource) -> tower_oauth2_client::AccessToken {
    let asking = async {
        loop {
            match source.token().await {
                Ok(token) => return token,
                Err(error) => {
                    let code = error.error_response().unwrap().code().clone();
                    assert_eq!(code, ErrorCode::AuthorizationPending);
                }
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap()
}

async fn the_last_one_told_is_good(issuer: &str, told: &Told) {
    let told = told.lock().unwrap().clone();
    let last = told.last().unwrap();
    assert_eq!(told.iter().filter(|token| *token == last).count(), 1);
    let request = TokenRequest::refresh_token(&**last);
    endpoint(issuer, web()).oneshot(request).await.unwrap();
}
