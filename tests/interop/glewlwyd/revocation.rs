//! Revoked tokens (RFC 7009) are no longer active.

use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, RevocationEndpoint, RevocationRequest, TokenEndpoint, TokenError,
    TokenErrorKind, jwt::SigningAlgorithm,
};

use super::{
    Http, KEYS, ROTATING, basic, client_credentials, http, introspect, password, refresh,
    refused_without_a_body, send, signed_jwt::with_key, uri, web,
};
use crate::{
    setting,
    support::{SECRET, Sent, call, client_certificate, https},
};

fn endpoint(client: ClientAuthentication) -> RevocationEndpoint<Http> {
    RevocationEndpoint::new(http(), uri(ROTATING, "/revoke/"), client)
}

#[tokio::test]
async fn revoked_access_token_is_no_longer_active() {
    for hint in [None, Some("access_token")] {
        let response = send(basic(), client_credentials()).await.unwrap();
        let state = introspect(ROTATING, "basic", &response).await;
        assert_eq!(state["active"], true);

        let mut request = RevocationRequest::new(response.access_token());
        if let Some(hint) = hint {
            request = request.token_type_hint(hint);
        }
        endpoint(basic()).oneshot(request.clone()).await.unwrap();
        let state = introspect(ROTATING, "basic", &response).await;
        assert_eq!(state["active"], false);

        // A token that is invalid already is a success (RFC 7009 §2.2).
        endpoint(basic()).oneshot(request).await.unwrap();
    }
}

#[tokio::test]
async fn revoked_refresh_token_returns_no_other_token() {
    let response = send(web(), password()).await.unwrap();
    let request = RevocationRequest::new(response.refresh_token().unwrap());
    endpoint(web()).oneshot(request).await.unwrap();
    let result = send(web(), refresh(&response)).await;
    refused_without_a_body(result, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn unknown_token_is_a_success() {
    let request = RevocationRequest::new("unknown");
    endpoint(basic()).oneshot(request).await.unwrap();
}

/// The server reports a success.
#[tokio::test]
async fn token_of_another_client_stays_valid() {
    let response = send(basic(), client_credentials()).await.unwrap();
    let request = RevocationRequest::new(response.access_token());
    endpoint(web()).oneshot(request).await.unwrap();
    let state = introspect(ROTATING, "basic", &response).await;
    assert_eq!(state["active"], true);
}

/// This server accepts only `client_secret_basic` here, as its metadata say.
#[tokio::test]
async fn failed_client_authentication_returns_401() {
    for client in [
        ClientAuthentication::client_secret_basic_raw("basic", "wrong"),
        ClientAuthentication::client_secret_basic_raw("unknown", SECRET),
        ClientAuthentication::none("basic"),
        with_key(SigningAlgorithm::ES256),
    ] {
        refused(endpoint(client).oneshot(RevocationRequest::new("t")).await);
    }
}

fn refused(result: Result<(), TokenError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus, "{error}");
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn discovered_token_endpoint_shares_its_metadata() {
    let (issuer, sent) = (uri(ROTATING, ""), Sent::default());
    let tokens = TokenEndpoint::discover(sent.record(http()), issuer, basic());
    let revocation = tokens.revocation();
    let response = tokens.oneshot(client_credentials()).await.unwrap();
    let before = sent.len();
    let request = RevocationRequest::new(response.access_token());
    revocation.oneshot(request).await.unwrap();
    assert_eq!(sent.len(), before + 1, "only the revocation request");
    assert_eq!(*sent.last().uri(), *uri(ROTATING, "/revoke"));
    let state = introspect(ROTATING, "basic", &response).await;
    assert_eq!(state["active"], false);
}

/// The metadata list only `client_secret_basic`, although the alias for TLS clients accepts them.
#[tokio::test]
async fn tls_client_is_accepted_at_an_alias_that_the_metadata_do_not_list() {
    let certificate = client_certificate(KEYS, "tls-client");
    let (issuer, sent) = (format!("{}/mtls", setting("GLEWLWYD_TLS")), Sent::default());
    let http = sent.record(https(KEYS, Some(&certificate)));
    let client = ClientAuthentication::tls_client_auth("tls");
    let tokens = TokenEndpoint::discover(http.clone(), issuer, client.clone());
    let revocation = tokens.revocation();
    let response = tokens.oneshot(client_credentials()).await.unwrap();
    let before = sent.len();
    let request = RevocationRequest::new(response.access_token());
    let error = revocation.oneshot(request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Request);
    let message = error.to_string();
    assert!(message.contains("`client_secret_basic`"), "{message}");
    assert!(message.contains("`allow_unlisted_methods`"), "{message}");
    assert_eq!(sent.len(), before);

    let alias = format!("{}/mtls/mtls", setting("GLEWLWYD_TLS"));
    let is_active = async || {
        let token = response.access_token().expose_secret();
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("token", token), ("client_id", "tls")])
            .finish();
        let request = Request::post(format!("{alias}/introspect"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form));
        let state = call(http.clone(), request.unwrap()).await.unwrap();
        state.body()["active"].as_bool().unwrap()
    };
    assert!(is_active().await);
    let endpoint = RevocationEndpoint::new(http.clone(), format!("{alias}/revoke"), client);
    endpoint.oneshot(request).await.unwrap();
    assert!(!is_active().await);
}
