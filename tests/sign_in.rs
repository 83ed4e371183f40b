//! A sign-in over the server of `test_util`: the ID token of a code, and the claims about its user.
#![cfg(all(
    feature = "authorization-code",
    feature = "dpop",
    feature = "test-util"
))]

use std::time::Duration;

use http::{Request, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::Full;
use serde_json::json;
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, ErrorCode, IdTokenChecks, IdTokenClaims, TokenEndpoint,
    TokenError, TokenErrorKind, TokenRequest, TokenResponse, UserinfoRequest, UserinfoResponse,
    authorization_code::{AuthorizationRequest, AuthorizationResponse},
    test_util::{AuthorizationCode, AuthorizationServer, Failure},
};

const CALLBACK: &str = "https://app.test/callback";

type Endpoint = TokenEndpoint<AuthorizationServer>;

fn endpoint(server: &AuthorizationServer) -> Endpoint {
    let client = ClientAuthentication::client_secret_basic("client", "secret");
    TokenEndpoint::discover(server.clone(), server.issuer(), client)
}

async fn sign_in(server: &AuthorizationServer, endpoint: &Endpoint, scope: &str) -> TokenResponse {
    let request = AuthorizationRequest::new(CALLBACK).scope(scope);
    let request = request.max_age(Duration::from_secs(60));
    let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
    let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
    let request = pending.accept(&back).unwrap();
    endpoint.clone().oneshot(request).await.unwrap()
}

async fn user_of(
    endpoint: &Endpoint,
    tokens: &TokenResponse,
) -> Result<UserinfoResponse, TokenError> {
    let claims = IdTokenClaims::unverified(tokens.id_token().unwrap()).unwrap();
    let request = UserinfoRequest::new(tokens.access_token()).subject(claims.sub().unwrap());
    endpoint.userinfo().oneshot(request).await
}

#[tokio::test]
async fn a_user_signs_in_and_is_known() {
    let server = AuthorizationServer::builder()
        .userinfo_field("email", "user@example.com")
        .build();
    for pushed in [true, false] {
        let endpoint = endpoint(&server);
        let request = AuthorizationRequest::new(CALLBACK)
            .scope("openid")
            .pushed(pushed);
        let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
        let back = AuthorizationResponse::from_uri(server.authorize(&url).unwrap());
        let tokens = endpoint
            .clone()
            .oneshot(pending.accept(&back).unwrap())
            .await
            .unwrap();

        let claims = IdTokenClaims::unverified(tokens.id_token().unwrap()).unwrap();
        assert_eq!(claims.get("iss").unwrap(), "https://as.test");
        assert_eq!(claims.get("aud").unwrap(), "client");
        assert!(
            claims
                .get("nonce")
                .unwrap()
                .as_str()
                .is_some_and(|it| !it.is_empty())
        );
        assert_eq!(claims.sub(), Some("user"));

        let user = user_of(&endpoint, &tokens).await.unwrap();
        assert_eq!(
            *user.json(),
            json!({ "sub": "user", "email": "user@example.com" })
        );
    }
}

/// The client of this crate checks it, and refuses any other.
#[tokio::test]
async fn the_id_token_has_the_nonce_of_the_code() {
    let server = AuthorizationServer::new();
    for (nonce, expected, refused) in [
        (Some("n"), Some("n"), None),
        (Some("n"), None, None),
        (None, None, None),
        (Some("other"), Some("n"), Some("another sign-in")),
        (None, Some("n"), Some("contains no `nonce`")),
    ] {
        let mut code = AuthorizationCode::new("client", CALLBACK)
            .scope("openid")
            .subject("ann");
        if let Some(nonce) = nonce {
            code = code.nonce(nonce);
        }
        let mut checks = IdTokenChecks::new("client").issuer(server.issuer());
        if let Some(expected) = expected {
            checks = checks.nonce(expected);
        }
        let request = TokenRequest::authorization_code(server.issue_code(code), CALLBACK);
        let result = endpoint(&server)
            .oneshot(request.id_token_checks(checks))
            .await;
        match refused {
            None => {
                let tokens = result.unwrap();
                let claims = IdTokenClaims::unverified(tokens.id_token().unwrap()).unwrap();
                assert_eq!(claims.sub(), Some("ann"));
                assert_eq!(claims.get("nonce").and_then(|it| it.as_str()), nonce);
            }
            Some(why) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(why), "{nonce:?}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn only_codes_of_a_user_with_the_scope_openid_have_an_id_token() {
    let server = AuthorizationServer::new();
    let endpoint = endpoint(&server);
    let code = || AuthorizationCode::new("client", CALLBACK);
    for (code, expected) in [
        (code().subject("ann").scope("orders openid"), true),
        (code().subject("ann").scope("openid-not"), false),
        (code().subject("ann"), false),
        (code().scope("openid"), false),
    ] {
        let request = TokenRequest::authorization_code(server.issue_code(code), CALLBACK);
        let tokens = endpoint.clone().oneshot(request).await.unwrap();
        assert_eq!(tokens.id_token().is_some(), expected);
    }
}

#[tokio::test]
async fn an_id_token_of_the_test_replaces_that_of_the_server() {
    let server = AuthorizationServer::builder()
        .response_field("id_token", "e30.e30.")
        .build();
    let code = AuthorizationCode::new("client", CALLBACK)
        .scope("openid")
        .subject("ann");
    let request = TokenRequest::authorization_code(server.issue_code(code), CALLBACK);
    let tokens = endpoint(&server).oneshot(request).await.unwrap();
    assert_eq!(tokens.id_token().unwrap().expose_secret(), "e30.e30.");
}

#[tokio::test]
async fn userinfo_needs_a_valid_token_of_a_user_with_the_scope_openid() {
    let server = AuthorizationServer::new();
    let endpoint = endpoint(&server);
    let tokens = sign_in(&server, &endpoint, "openid orders").await;
    let refreshed = TokenRequest::refresh_token(tokens.refresh_token().unwrap());
    let refreshed = endpoint.clone().oneshot(refreshed).await.unwrap();
    let request = UserinfoRequest::new(refreshed.access_token()).subject("user");
    assert!(endpoint.userinfo().oneshot(request).await.is_ok());

    let request = UserinfoRequest::new(tokens.access_token()).subject("somebody else");
    assert!(endpoint.userinfo().oneshot(request).await.is_err());

    server.revoke(tokens.access_token().expose_secret());
    let error = user_of(&endpoint, &tokens).await.unwrap_err();
    assert_eq!(
        error.error_response().unwrap().code(),
        &ErrorCode::INVALID_TOKEN
    );

    let code = AuthorizationCode::new("client", CALLBACK)
        .subject("ann")
        .scope("orders");
    let request = TokenRequest::authorization_code(server.issue_code(code), CALLBACK);
    let without_openid = endpoint.clone().oneshot(request).await.unwrap();
    let of_nobody = TokenRequest::client_credentials().scope("openid");
    let of_nobody = endpoint.clone().oneshot(of_nobody).await.unwrap();
    for tokens in [without_openid, of_nobody] {
        let request = UserinfoRequest::new(tokens.access_token());
        let error = endpoint.userinfo().oneshot(request).await.unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
        assert_eq!(
            error.error_response().unwrap().code(),
            &ErrorCode::INSUFFICIENT_SCOPE
        );
    }
}

#[tokio::test]
async fn userinfo_takes_bound_tokens_with_a_proof() {
    let server = AuthorizationServer::new();
    server.demand_dpop_nonces(true);
    let endpoint = endpoint(&server).dpop(DpopKey::generate().unwrap());
    let tokens = sign_in(&server, &endpoint, "openid").await;
    assert_eq!(
        user_of(&endpoint, &tokens).await.unwrap().sub(),
        Some("user")
    );

    let without_proof = Request::get(server.uri("/userinfo")).header(
        "authorization",
        format!("DPoP {}", tokens.access_token().expose_secret()),
    );
    let as_bearer = Request::get(server.uri("/userinfo")).header(
        "authorization",
        format!("Bearer {}", tokens.access_token().expose_secret()),
    );
    for request in [without_proof, as_bearer] {
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let response = server.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
    }
}

#[tokio::test]
async fn userinfo_can_be_told_to_fail() {
    let server = AuthorizationServer::new();
    let endpoint = endpoint(&server);
    let tokens = sign_in(&server, &endpoint, "openid").await;
    server.fail_next(Failure::status(503).at("/userinfo"));
    let error = user_of(&endpoint, &tokens).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnexpectedStatus);
    assert!(error.is_transient());
    assert!(user_of(&endpoint, &tokens).await.is_ok());
}
