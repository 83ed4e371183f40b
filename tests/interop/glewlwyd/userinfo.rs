//! Claims about the user of an access token (OpenID Connect Core §5.3).

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    AccessToken, DpopKey, TokenEndpoint, TokenError, TokenErrorKind, TokenType, UserinfoEndpoint,
    UserinfoRequest, UserinfoResponse,
};

use super::{Alice, ROTATING, code_request, http, password, send, uri, web};
use crate::support::claims;

async fn ask(request: UserinfoRequest) -> Result<UserinfoResponse, TokenError> {
    let endpoint = UserinfoEndpoint::new(http(), uri(ROTATING, "/userinfo/"));
    endpoint.oneshot(request).await
}

#[tokio::test]
async fn claims_are_about_the_subject_of_the_id_token() {
    let code = Alice::sign_in().await.code(ROTATING).await;
    let tokens = TokenEndpoint::discover(http(), uri(ROTATING, ""), web());
    let userinfo = tokens.userinfo();
    let response = tokens.oneshot(code_request(&code)).await.unwrap();
    let id_token = claims(response.id_token().unwrap().expose_secret());
    let subject = id_token["sub"].as_str().unwrap();
    let request = UserinfoRequest::new(response.access_token());
    let user = userinfo.oneshot(request.clone().subject(subject)).await;
    assert_eq!(user.unwrap().sub(), Some(subject));

    let error = ask(request.subject("bob")).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
}

#[tokio::test]
async fn jwt_is_returned_unverified() {
    let response = send(web(), password()).await.unwrap();
    let request = UserinfoRequest::new(response.access_token());
    let plain = ask(request.clone()).await.unwrap();
    let request = request.header("accept", "application/jwt");
    let signed = ask(request.clone().subject(plain.sub().unwrap())).await;
    let signed = signed.unwrap();
    assert_eq!(signed.sub(), None, "nothing has been verified");
    let claims = claims(signed.unverified_jwt().unwrap());
    assert_eq!(claims["sub"], *plain.get("sub").unwrap());

    let error = ask(request.subject("bob")).await.unwrap_err();
    assert!(error.to_string().contains("another subject"), "{error}");
}

/// This server sends no challenge.
#[tokio::test]
async fn refused_token_returns_401() {
    let unknown = AccessToken::new("unknown", TokenType::BEARER).unwrap();
    let error = ask(UserinfoRequest::new(&unknown)).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert!(
        error.to_string().contains("check the access token"),
        "{error}"
    );
}

#[tokio::test]
async fn bound_token_is_sent_with_a_proof() {
    let key = DpopKey::generate().unwrap();
    let code = Alice::sign_in().await.code(ROTATING).await;
    let tokens = TokenEndpoint::discover(http(), uri(ROTATING, ""), web()).dpop(key);
    let userinfo = tokens.userinfo();
    let response = tokens.oneshot(code_request(&code)).await.unwrap();
    let request = UserinfoRequest::new(response.access_token());
    userinfo.oneshot(request).await.unwrap();
}
