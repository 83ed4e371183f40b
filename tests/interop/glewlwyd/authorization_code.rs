//! The sign-in of a user, from the URL to the tokens.

use tower::ServiceExt as _;
use tower_oauth2_client::{
    DpopKey, IdTokenClaims, TokenEndpoint,
    authorization_code::{AuthorizationErrorKind, AuthorizationRequest, AuthorizationResponse},
};

use super::{Alice, Http, ROTATING, http, uri, web};
use crate::support::REDIRECT_URI;

fn discover() -> TokenEndpoint<Http> {
    TokenEndpoint::discover(http(), uri(ROTATING, ""), web())
}

#[tokio::test]
async fn user_signs_in_with_and_without_a_pushed_request() {
    let mut alice = Alice::sign_in().await;
    for pushed in [true, false] {
        for key in [None, Some(DpopKey::generate().unwrap())] {
            let endpoint = match &key {
                Some(key) => discover().dpop(key.clone()),
                None => discover(),
            };
            let request = AuthorizationRequest::new(REDIRECT_URI)
                .scope("openid api")
                .pushed(pushed);
            let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
            assert_eq!(url.contains("request_uri="), pushed);
            // The login page adds `g_continue` after the user has agreed.
            let back = alice.visit(&format!("{url}&g_continue")).await;
            let response = AuthorizationResponse::from_uri(&back);
            let request = pending.accept(&response).unwrap();
            let response = endpoint.oneshot(request).await.unwrap();
            let claims = IdTokenClaims::unverified(response.id_token().unwrap()).unwrap();
            assert!(claims.get("nonce").is_some());
            assert_eq!(response.access_token().dpop_key(), key.as_ref());
        }
    }
}

#[tokio::test]
async fn response_names_the_issuer() {
    let (url, mut pending) = {
        let endpoint = tower_oauth2_client::authorization_code::AuthorizationEndpoint::new(uri(
            ROTATING, "/auth",
        ));
        let request = AuthorizationRequest::new(REDIRECT_URI).scope("openid api");
        endpoint
            .issuer("https://another.example")
            .begin(request, "web")
            .unwrap()
    };
    let back = Alice::sign_in()
        .await
        .visit(&format!("{url}&g_continue"))
        .await;
    let error = pending
        .accept(&AuthorizationResponse::from_uri(back))
        .unwrap_err();
    assert_eq!(error.kind(), AuthorizationErrorKind::IssuerMismatch);
}
