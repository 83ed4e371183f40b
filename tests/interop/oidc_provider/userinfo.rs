//! Claims about the user of an access token (OpenID Connect Core §5.3).

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    AccessToken, ClientAuthentication, ClientMetadata, DpopKey, ErrorCode, RegistrationEndpoint,
    RegistrationRequest, TokenEndpoint, TokenError, TokenErrorKind, TokenRequest, TokenType,
    UserinfoEndpoint, UserinfoRequest, UserinfoResponse,
};

use super::{basic, code_request, endpoint, send, sign_in, sign_in_at, uri, web};
use crate::{
    setting,
    support::{REDIRECT_URI, SECRET, Sent, claims, http},
};

async fn ask(request: UserinfoRequest) -> Result<UserinfoResponse, TokenError> {
    UserinfoEndpoint::new(http(), uri("/me"))
        .oneshot(request)
        .await
}

#[tokio::test]
async fn claims_are_about_the_subject_of_the_id_token() {
    let code = sign_in("web").await;
    let response = send(web(), code_request(&code)).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    let subject = id_token["sub"].as_str().unwrap();
    let request = UserinfoRequest::new(response.access_token());
    let user = ask(request.clone().subject(subject)).await.unwrap();
    assert_eq!(user.sub(), Some("alice"));
    assert_eq!(user.get("sub").unwrap(), "alice");

    let error = ask(request.subject("bob")).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert!(error.to_string().contains("another subject"), "{error}");
}

#[tokio::test]
async fn refused_token_is_a_typed_error() {
    let unknown = AccessToken::new("unknown", TokenType::BEARER).unwrap();
    let error = ask(UserinfoRequest::new(&unknown)).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    let code = error.error_response().unwrap().code();
    assert_eq!(*code, ErrorCode::INVALID_TOKEN);

    // A token of a client has no user.
    let response = send(basic(), TokenRequest::client_credentials());
    let response = response.await.unwrap();
    let request = UserinfoRequest::new(response.access_token());
    let error = ask(request).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ErrorResponse, "{error}");
}

#[tokio::test]
async fn bound_token_is_sent_with_a_proof() {
    let key = DpopKey::generate().unwrap();
    let code = sign_in("web").await;
    let endpoint = endpoint(web()).dpop(key.clone());
    let response = endpoint.oneshot(code_request(&code)).await.unwrap();
    let token = response.access_token();
    assert_eq!(token.dpop_key(), Some(&key));
    let user = ask(UserinfoRequest::new(token)).await.unwrap();
    assert_eq!(user.sub(), Some("alice"));

    // The token alone, and with the proof of another key.
    let stolen = [
        AccessToken::new(token.expose_secret(), TokenType::BEARER).unwrap(),
        token.clone().bound_to(DpopKey::generate().unwrap()),
    ];
    for stolen in stolen {
        let error = ask(UserinfoRequest::new(&stolen)).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::ErrorResponse, "{error}");
        assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    }
}

#[tokio::test]
async fn demand_for_a_nonce_is_answered_once() {
    const INSTANCE: &str = "OIDC_PROVIDER_NONCE";
    let (issuer, sent) = (setting(INSTANCE), Sent::default());
    let key = DpopKey::generate().unwrap();
    let tokens = TokenEndpoint::discover(sent.record(http()), issuer, web()).dpop(key);
    let userinfo = tokens.userinfo();
    let code = sign_in_at(INSTANCE, "web").await;
    let response = tokens.oneshot(code_request(&code)).await.unwrap();
    for requests in [2, 1] {
        let before = sent.len();
        let request = UserinfoRequest::new(response.access_token()).subject("alice");
        userinfo.clone().oneshot(request).await.unwrap();
        assert_eq!(sent.len() - before, requests);
    }
}

#[tokio::test]
async fn signed_claims_are_returned_unverified() {
    let metadata = ClientMetadata::new()
        .redirect_uri(REDIRECT_URI)
        .member("userinfo_signed_response_alg", "ES256");
    let registration = RegistrationEndpoint::new(http(), uri("/reg"));
    let registered = registration.oneshot(RegistrationRequest::new(metadata));
    let registered = registered.await.unwrap();
    let client = registered.client_authentication().unwrap();
    let code = sign_in(registered.client_id()).await;
    let response = send(client, code_request(&code)).await.unwrap();

    let request = UserinfoRequest::new(response.access_token());
    let user = ask(request.clone().subject("alice")).await.unwrap();
    assert_eq!(user.sub(), None, "nothing has been verified");
    let claims = claims(user.unverified_jwt().unwrap());
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["aud"], registered.client_id());

    let error = ask(request.subject("bob")).await.unwrap_err();
    assert!(error.to_string().contains("another subject"), "{error}");
}

/// The client of the token endpoint is not sent.
#[tokio::test]
async fn discovered_endpoint_needs_no_client() {
    let (issuer, sent) = (setting("OIDC_PROVIDER"), Sent::default());
    let client = ClientAuthentication::client_secret_basic("web", SECRET);
    let tokens = TokenEndpoint::discover(sent.record(http()), issuer, client);
    let userinfo = tokens.userinfo();
    let code = sign_in("web").await;
    let response = tokens.oneshot(code_request(&code)).await.unwrap();
    let before = sent.len();
    let request = UserinfoRequest::new(response.access_token());
    let user = userinfo.oneshot(request).await.unwrap();
    assert_eq!(user.sub(), Some("alice"));
    assert_eq!(sent.len(), before + 1, "only the userinfo request");
    let authorization = &sent.last().headers()["authorization"].clone();
    assert!(authorization.to_str().unwrap().starts_with("Bearer "));
}
