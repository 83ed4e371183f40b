//! The state of tokens (RFC 7662), also signed (RFC 9701).

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, IntrospectionEndpoint, IntrospectionRequest, Scope, TokenEndpoint,
    TokenErrorKind,
};

use super::{Http, ROTATING, basic, client_credentials, http, password, send, uri, web};
use crate::support::claims;

fn endpoint(client: ClientAuthentication) -> IntrospectionEndpoint<Http> {
    IntrospectionEndpoint::new(http(), uri(ROTATING, "/introspect/"), client)
}

#[tokio::test]
async fn state_of_an_active_token_is_typed() {
    let response = send(basic(), client_credentials()).await.unwrap();
    let request = IntrospectionRequest::new(response.access_token());
    let state = endpoint(basic()).oneshot(request).await.unwrap();
    assert!(state.is_active());
    assert_eq!(state.client_id(), Some("basic"));
    assert_eq!(state.scope().unwrap(), Scope::from("api"));
    let lifetime = state.exp().unwrap().duration_since(state.iat().unwrap());
    assert_eq!(lifetime.unwrap(), response.expires_in().unwrap());
}

#[tokio::test]
async fn token_of_a_user_names_the_user() {
    let response = send(web(), password()).await.unwrap();
    let request = IntrospectionRequest::new(response.access_token());
    let state = endpoint(web()).oneshot(request).await.unwrap();
    assert!(state.is_active());
    assert_eq!(state.username(), Some("alice"));
}

#[tokio::test]
async fn unknown_token_is_not_active() {
    let request = IntrospectionRequest::new("unknown");
    let state = endpoint(basic()).oneshot(request).await.unwrap();
    assert!(!state.is_active());
}

#[tokio::test]
async fn wrong_secret_returns_401() {
    let wrong = ClientAuthentication::client_secret_basic_raw("basic", "wrong");
    let request = IntrospectionRequest::new("t");
    let error = endpoint(wrong).oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error}");
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert!(
        error.to_string().contains("check the id of the client"),
        "{error}"
    );
}

#[tokio::test]
async fn discovered_endpoint_signs_its_answer() {
    let tokens = TokenEndpoint::discover(http(), uri(ROTATING, ""), basic());
    let introspection = tokens.introspection();
    let response = tokens.oneshot(client_credentials()).await.unwrap();
    let request = IntrospectionRequest::new(response.access_token()).jwt_response();
    let signed = introspection.oneshot(request).await.unwrap();
    assert!(!signed.is_active(), "nothing has been verified");
    let claims = claims(signed.unverified_jwt().unwrap());
    assert_eq!(claims["token_introspection"]["active"], true);
}
