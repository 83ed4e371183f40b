//! Revoked tokens (RFC 7009) are no longer active.

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, Credential, ErrorCode, RevocationEndpoint, RevocationRequest,
    TokenEndpoint, TokenErrorKind, TokenRequest, jwt::SigningAlgorithm,
};

use super::{
    API, KEYS, basic, code_request, post, post_client, send, sign_in, signed_jwt::with_key, uri,
    web,
};
use crate::{
    setting,
    support::{self, Http, Sent, client_certificate, http, https, invalid},
};

fn endpoint(client: ClientAuthentication) -> RevocationEndpoint<Http> {
    RevocationEndpoint::new(http(), uri("/token/revocation"), client)
}

async fn revoke(client: ClientAuthentication, token: impl Into<Credential>) {
    let request = RevocationRequest::new(token);
    endpoint(client).oneshot(request).await.unwrap();
}

async fn is_active(token: &str) -> bool {
    let state = post("/token/introspection", "web", &[("token", token)]).await;
    state["active"].as_bool().unwrap()
}

#[tokio::test]
async fn every_client_authentication_revokes_an_access_token() {
    for client in [
        basic(),
        post_client(),
        with_key(SigningAlgorithm::ES256),
        ClientAuthentication::client_secret_jwt(
            "client_secret_jwt-HS256",
            support::HMAC_SECRET,
            SigningAlgorithm::HS256,
        ),
    ] {
        let response = send(client.clone(), TokenRequest::client_credentials());
        let response = response.await.unwrap();
        let token = response.access_token();
        assert!(is_active(token.expose_secret()).await, "{client:?}");
        revoke(client.clone(), token).await;
        assert!(!is_active(token.expose_secret()).await, "{client:?}");

        // A token that is invalid already is a success (RFC 7009 §2.2).
        revoke(client, token).await;
    }
}

#[tokio::test]
async fn public_client_revokes_a_refresh_token_and_its_access_token() {
    let public = || ClientAuthentication::none("public");
    let code = sign_in("public").await;
    let response = send(public(), code_request(&code)).await.unwrap();
    let refresh_token = response.refresh_token().unwrap();
    let access_token = response.access_token().expose_secret();
    assert!(is_active(access_token).await);

    let request = RevocationRequest::new(refresh_token).token_type_hint("refresh_token");
    endpoint(public()).oneshot(request).await.unwrap();
    let result = send(public(), TokenRequest::refresh_token(refresh_token)).await;
    assert_eq!(invalid(result), ErrorCode::INVALID_GRANT);
    assert!(!is_active(access_token).await);
}

#[tokio::test]
async fn wrong_hint_changes_nothing() {
    let code = sign_in("web").await;
    let response = send(web(), code_request(&code)).await.unwrap();
    let token = response.access_token();
    let request = RevocationRequest::new(token).token_type_hint("refresh_token");
    endpoint(web()).oneshot(request).await.unwrap();
    assert!(!is_active(token.expose_secret()).await);
}

#[tokio::test]
async fn unknown_token_is_a_success() {
    revoke(basic(), "unknown").await;
}

#[tokio::test]
async fn wrong_secret_returns_invalid_client() {
    let wrong = ClientAuthentication::client_secret_basic("basic", "wrong");
    let result = endpoint(wrong).oneshot(RevocationRequest::new("t")).await;
    let error = result.unwrap_err();
    assert_eq!(error.status().unwrap(), StatusCode::UNAUTHORIZED);
    let code = error.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::INVALID_CLIENT);
}

#[tokio::test]
async fn token_of_another_client_stays_valid() {
    let response = send(basic(), TokenRequest::client_credentials());
    let response = response.await.unwrap();
    let token = response.access_token();
    let result = endpoint(web()).oneshot(RevocationRequest::new(token)).await;
    let error = result.unwrap_err();
    let code = error.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::INVALID_REQUEST);
    assert!(is_active(token.expose_secret()).await);
}

#[tokio::test]
async fn jwt_access_token_is_an_unsupported_type() {
    let request = TokenRequest::client_credentials().resource(API);
    let response = send(basic(), request).await.unwrap();
    let request = RevocationRequest::new(response.access_token());
    let error = endpoint(basic()).oneshot(request).await.unwrap_err();
    let code = error.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::UNSUPPORTED_TOKEN_TYPE);
}

#[tokio::test]
async fn path_without_an_endpoint_is_reported() {
    let endpoint = RevocationEndpoint::new(http(), uri("/nothing/here"), basic());
    let result = endpoint.oneshot(RevocationRequest::new("t")).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(
        error
            .to_string()
            .contains("there is no revocation endpoint at this URI"),
        "{error}"
    );
}

#[tokio::test]
async fn discovered_token_endpoint_shares_its_metadata() {
    let (issuer, sent) = (setting("OIDC_PROVIDER"), Sent::default());
    let tokens = TokenEndpoint::discover(sent.record(http()), issuer, basic());
    let revocation = tokens.revocation();
    let response = tokens.oneshot(TokenRequest::client_credentials());
    let response = response.await.unwrap();
    let token = response.access_token();
    assert!(is_active(token.expose_secret()).await);
    let before = sent.len();
    revocation
        .oneshot(RevocationRequest::new(token))
        .await
        .unwrap();
    assert_eq!(sent.len(), before + 1, "only the revocation request");
    assert!(!is_active(token.expose_secret()).await);
}

#[tokio::test]
async fn tls_client_uses_the_alias() {
    let certificate = client_certificate(KEYS, "tls-client");
    let (issuer, sent) = (setting("OIDC_PROVIDER_TLS"), Sent::default());
    let http = sent.record(https(KEYS, Some(&certificate)));
    let client = ClientAuthentication::tls_client_auth("tls");
    let tokens = TokenEndpoint::discover(http, issuer, client);
    let revocation = tokens.revocation();
    let response = tokens.oneshot(TokenRequest::client_credentials());
    let token = response.await.unwrap().access_token().clone();
    revocation
        .oneshot(RevocationRequest::new(&token))
        .await
        .unwrap();
    let alias = format!("{}/token/revocation", setting("OIDC_PROVIDER_MTLS"));
    assert_eq!(*sent.last().uri(), *alias);

    let uri = format!("{}/token/introspection", setting("OIDC_PROVIDER_TLS"));
    let fields = [("token", token.expose_secret())];
    let state = support::post(https(KEYS, None), &uri, "web", &fields).await;
    assert_eq!(state["active"], false);
}
