//! The sign-in of a user, from the URL to the tokens.

use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, ErrorCode, IdTokenClaims, TokenEndpoint, TokenErrorKind,
    authorization_code::{
        AuthorizationEndpoint, AuthorizationErrorKind, AuthorizationRequest, AuthorizationResponse,
    },
};

use super::web;
use crate::{
    browser::{Browser, End},
    setting,
    support::{Http, REDIRECT_URI, http, invalid},
};

#[tokio::test]
async fn user_signs_in_with_and_without_a_pushed_request() {
    for pushed in [None, Some(true), Some(false)] {
        for client in [ClientAuthentication::none("public"), web()] {
            let id = client.client_id().to_owned();
            let endpoint = discover(client);
            let request = match pushed {
                Some(pushed) => request().pushed(pushed),
                None => request(),
            };
            let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
            assert_eq!(url.contains("request_uri="), pushed != Some(false));
            let request = pending.accept(&visit(&url).await).unwrap();
            let response = endpoint.oneshot(request).await.unwrap();
            assert!(response.refresh_token().is_some());
            // It has been checked: issuer, audience, nonce, expiry.
            let claims = IdTokenClaims::unverified(response.id_token().unwrap()).unwrap();
            assert_eq!(claims.sub(), Some("alice"));
            assert_eq!(claims.get("aud").unwrap(), &*id);
            assert_eq!(claims.get("nonce").unwrap().as_str().unwrap().len(), 43);
        }
    }
}

#[tokio::test]
async fn max_age_is_answered_by_auth_time() {
    let request = request().max_age(std::time::Duration::from_secs(600));
    let endpoint = discover(web());
    let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
    let request = pending.accept(&visit(&url).await).unwrap();
    let response = endpoint.oneshot(request).await.unwrap();
    let claims = IdTokenClaims::unverified(response.id_token().unwrap()).unwrap();
    assert!(claims.get("auth_time").unwrap().is_u64());
}

#[tokio::test]
async fn error_response_names_the_issuer() {
    let endpoint = discover(web());
    let silent = AuthorizationRequest::new(REDIRECT_URI)
        .scope("openid")
        .prompt("none");
    let (url, mut pending) = endpoint.begin_authorization(silent).await.unwrap();
    let error = pending.accept(&visit(&url).await).unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::Refused);
    assert_eq!(
        *error.error_response().unwrap().code(),
        ErrorCode::LOGIN_REQUIRED
    );
}

#[tokio::test]
async fn response_of_another_issuer_is_refused() {
    let uri = format!("{}/auth", setting("OIDC_PROVIDER"));
    let mixed_up = AuthorizationEndpoint::new(uri).issuer("https://another.example");
    let (url, mut pending) = mixed_up.begin(request(), "public").unwrap();
    let error = pending.accept(&visit(&url).await).unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::IssuerMismatch);
}

#[tokio::test]
async fn response_is_accepted_once_and_only_by_its_own_sign_in() {
    let endpoint = discover(web());
    let (url, mut pending) = endpoint.begin_authorization(request()).await.unwrap();
    let (_, mut other) = endpoint.begin_authorization(request()).await.unwrap();
    let response = visit(&url).await;
    let error = other.accept(&response).unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::StateMismatch);
    let request = pending.accept(&response).unwrap();
    let error = pending.accept(&response).unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::AlreadyUsed);
    endpoint.clone().oneshot(request.clone()).await.unwrap();
    assert_eq!(
        invalid(endpoint.oneshot(request).await),
        ErrorCode::INVALID_GRANT
    );
}

#[tokio::test]
async fn code_is_bound_to_the_dpop_key() {
    let [key, another] = [(), ()].map(|()| DpopKey::generate().unwrap());
    for pushed in [true, false] {
        let endpoint = discover(web()).dpop(key.clone());
        let request = request().pushed(pushed);
        let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
        let request = pending.accept(&visit(&url).await).unwrap();
        let stolen = request.clone().dpop(another.clone());
        assert_eq!(
            invalid(endpoint.oneshot(stolen).await),
            ErrorCode::INVALID_GRANT
        );
    }
}

#[tokio::test]
async fn refused_push_is_reported_before_the_user_sees_a_page() {
    let wrong = AuthorizationRequest::new("https://not-registered.example/").scope("openid");
    let error = discover(web())
        .begin_authorization(wrong)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse);
    assert!(error.to_string().contains("redirect"), "{error}");
}

fn discover(client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::discover(http(), setting("OIDC_PROVIDER"), client)
}

fn request() -> AuthorizationRequest {
    let request = AuthorizationRequest::new(REDIRECT_URI).scope("openid offline_access");
    request.prompt("consent")
}

/// Signs alice in, and returns what the browser brings back.
pub(super) async fn visit(url: &str) -> AuthorizationResponse {
    match Browser::new("alice").visit(url, REDIRECT_URI).await {
        End::Left(back) => AuthorizationResponse::from_uri(back),
        End::Page(page) => panic!("the server never redirected to {REDIRECT_URI}: {page}"),
    }
}
