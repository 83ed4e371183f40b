//! Tokens that this crate revokes (RFC 7009), as the server then sees them.

use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, RevocationEndpoint, RevocationRequest, TokenEndpoint, TokenError,
    TokenErrorKind, jwt::SigningAlgorithm,
};

use super::{
    Http, KEYS, ROTATING, basic, client_credentials, http, introspect, password, refresh,
    refused_in_silence, send, signed_jwt::with_key, uri, web,
};
use crate::{
    setting,
    support::{SECRET, Sent, call, client_certificate, https},
};

fn endpoint(client: ClientAuthentication) -> RevocationEndpoint<Http> {
    RevocationEndpoint::new(http(), uri(ROTATING, "/revoke/").parse().unwrap(), client)
}

#[tokio::test]
async fn an_access_token_is_active_before_and_not_after() {
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
async fn a_revoked_refresh_token_brings_no_other_token() {
    let response = send(web(), password()).await.unwrap();
    let request = RevocationRequest::new(response.refresh_token().unwrap());
    endpoint(web()).oneshot(request).await.unwrap();
    let result = send(web(), refresh(&response)).await;
    refused_in_silence(result, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_token_that_is_unknown_or_of_another_client_is_a_success_and_stays_as_it_is() {
    let request = RevocationRequest::new("unknown");
    endpoint(basic()).oneshot(request).await.unwrap();

    let response = send(basic(), client_credentials()).await.unwrap();
    let request = RevocationRequest::new(response.access_token());
    endpoint(web()).oneshot(request).await.unwrap();
    let state = introspect(ROTATING, "basic", &response).await;
    assert_eq!(state["active"], true);
}

/// This server takes only a secret in Basic here, as its metadata say.
#[tokio::test]
async fn a_client_without_its_secret_is_401_without_a_body() {
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
async fn a_discovered_token_endpoint_revokes_with_the_same_metadata() {
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

/// Its metadata list `client_secret_basic` alone, although its alias for TLS clients accepts them.
#[tokio::test]
async fn a_tls_client_revokes_at_the_alias_that_the_metadata_deny() {
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
    assert!(message.contains("`RevocationEndpoint::new`"), "{message}");
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
    let uri = format!("{alias}/revoke").parse().unwrap();
    let endpoint = RevocationEndpoint::new(http.clone(), uri, client);
    endpoint.oneshot(request).await.unwrap();
    assert!(!is_active().await);
}
