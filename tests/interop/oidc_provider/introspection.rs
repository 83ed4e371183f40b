//! The state of tokens (RFC 7662), also signed (RFC 9701).

use http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_oauth2_client::{
    AccessToken, ClientAuthentication, Credential, DpopKey, ErrorCode, IntrospectionEndpoint,
    IntrospectionRequest, IntrospectionResponse, Scope, TokenEndpoint, TokenErrorKind,
    TokenRequest, TokenType,
};

use super::{basic, code_request, endpoint, send, sign_in, uri, web};
use crate::{
    setting,
    support::{Http, Sent, claims, http},
};

fn introspection(client: ClientAuthentication) -> IntrospectionEndpoint<Http> {
    IntrospectionEndpoint::new(http(), uri("/token/introspection"), client)
}

async fn state(token: impl Into<Credential>) -> IntrospectionResponse {
    let request = IntrospectionRequest::new(token);
    introspection(basic()).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn state_of_an_active_token_is_typed() {
    let request = TokenRequest::client_credentials();
    let response = send(basic(), request).await.unwrap();
    let state = state(response.access_token()).await;
    assert!(state.is_active());
    assert_eq!(state.client_id(), Some("basic"));
    assert_eq!(state.iss(), Some(&*setting("OIDC_PROVIDER")));
    assert_eq!(state.token_type().unwrap(), TokenType::BEARER);
    let lifetime = state.exp().unwrap().duration_since(state.iat().unwrap());
    assert_eq!(lifetime.unwrap(), response.expires_in().unwrap());
    assert_eq!(state.sub(), None);
}

#[tokio::test]
async fn tokens_of_a_user_name_the_user() {
    let code = sign_in("web").await;
    let response = send(web(), code_request(&code)).await.unwrap();
    for token in [
        Credential::from(response.access_token()),
        Credential::from(response.refresh_token().unwrap()),
    ] {
        for hint in ["access_token", "refresh_token", "unknown"] {
            let request = IntrospectionRequest::new(token.clone()).token_type_hint(hint);
            let state = introspection(web()).oneshot(request).await.unwrap();
            assert!(state.is_active());
            assert_eq!(state.sub(), Some("alice"));
            assert_eq!(state.scope().unwrap(), Scope::from("openid offline_access"));
        }
    }
}

#[tokio::test]
async fn unknown_token_is_not_active() {
    let state = state("unknown").await;
    assert!(!state.is_active());
    assert_eq!(*state.json(), json!({ "active": false }));
}

#[tokio::test]
async fn bound_token_names_its_key() {
    let key = DpopKey::generate().unwrap();
    let endpoint = endpoint(basic()).dpop(key.clone());
    let response = endpoint.oneshot(TokenRequest::client_credentials());
    let response = response.await.unwrap();
    let state = state(response.access_token()).await;
    assert_eq!(state.get("cnf").unwrap()["jkt"], key.thumbprint());
    assert_eq!(state.token_type().unwrap(), TokenType::DPOP);
}

#[tokio::test]
async fn wrong_secret_and_an_unused_bearer_token_are_refused() {
    let wrong = ClientAuthentication::client_secret_basic("basic", "wrong");
    let own = AccessToken::new("unknown", TokenType::BEARER).unwrap();
    let request = IntrospectionRequest::new("t");
    for (client, request) in [
        (wrong, request.clone()),
        // This server wants a client that authenticates.
        (basic(), request.authorized_by(&own)),
    ] {
        let error = introspection(client).oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse, "{error}");
        assert!(error.status().unwrap().is_client_error());
    }
}

#[tokio::test]
async fn discovered_token_endpoint_shares_its_metadata() {
    let (issuer, sent) = (setting("OIDC_PROVIDER"), Sent::default());
    let tokens = TokenEndpoint::discover(sent.record(http()), issuer, basic());
    let introspection = tokens.introspection();
    let response = tokens.oneshot(TokenRequest::client_credentials());
    let response = response.await.unwrap();
    let before = sent.len();
    let request = IntrospectionRequest::new(response.access_token());
    let state = introspection.oneshot(request).await.unwrap();
    assert!(state.is_active());
    assert_eq!(sent.len(), before + 1, "only the introspection request");
}

#[tokio::test]
async fn signed_answer_is_returned_only_if_it_is_requested() {
    let request = TokenRequest::client_credentials();
    let response = send(basic(), request).await.unwrap();
    let request = IntrospectionRequest::new(response.access_token());
    let plain = introspection(basic()).oneshot(request.clone());
    assert!(plain.await.unwrap().is_active());

    let signed = introspection(basic()).oneshot(request.jwt_response());
    let signed = signed.await.unwrap();
    assert!(!signed.is_active(), "nothing has been verified");
    let claims: Value = claims(signed.unverified_jwt().unwrap());
    assert_eq!(claims["iss"], setting("OIDC_PROVIDER"));
    assert_eq!(claims["token_introspection"]["active"], true);
    assert_eq!(claims["token_introspection"]["client_id"], "basic");
}

#[tokio::test]
async fn public_client_may_ask_about_its_own_token() {
    let public = || ClientAuthentication::none("public");
    let code = sign_in("public").await;
    let response = send(public(), code_request(&code)).await.unwrap();
    let request = IntrospectionRequest::new(response.access_token());
    let state = introspection(public()).oneshot(request).await.unwrap();
    assert_eq!(state.client_id(), Some("public"));

    let request = IntrospectionRequest::new("t");
    let endpoint = IntrospectionEndpoint::new(http(), uri("/nothing/here"), public());
    let error = endpoint.oneshot(request).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    let code = error.error_response().map(|error| error.code().clone());
    assert!(code.is_none_or(|code| code != ErrorCode::INVALID_CLIENT));
}
