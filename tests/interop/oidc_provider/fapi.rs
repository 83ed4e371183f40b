//! FAPI 2.0: signed client assertions, bound tokens, required nonces.

use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, DpopKey, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::CloneBody,
    authorization_code::AuthorizationRequest,
    jwt::{SigningAlgorithm, SigningKey},
};

use super::{API, KEYS, authorization_code::visit};
use crate::{
    setting,
    support::{REDIRECT_URI, Sent, call, http, pem, signing_key},
};

/// The complete recipe ([FAPI 2.0 Security Profile §5.3.3](https://openid.net/specs/fapi-security-profile-2_0-final.html)).
#[tokio::test]
async fn calls_succeed_with_signed_assertion_bound_token_and_nonces() {
    for (algorithm, file) in [
        (SigningAlgorithm::PS256, "signing-rsa.key"),
        (SigningAlgorithm::ES256, "signing-es256.key"),
    ] {
        let key = SigningKey::from_pem(pem(KEYS, file), algorithm).unwrap();
        let id = format!("private_key_jwt-{algorithm}");
        let client = ClientAuthentication::private_key_jwt(id, key.kid(algorithm.as_str()));
        let (issuer, dpop) = (setting("OIDC_PROVIDER_NONCE"), DpopKey::generate().unwrap());
        let endpoint = TokenEndpoint::discover(http(), issuer, client).dpop(dpop.clone());
        let request = TokenRequest::client_credentials()
            .resource(API)
            .scope("api:read");
        let tokens = TokenCache::new(endpoint);
        let uri = format!("{}/nonce/required", setting("OIDC_PROVIDER_API"));
        let layer = AddAccessTokenLayer::new(tokens.source(request));
        let api = ServiceBuilder::new()
            .layer(layer.origin(&uri).unwrap().resend(CloneBody))
            .service(http());

        for number in 0..10 {
            let body = Full::from(format!("call {number}"));
            let request = Request::post(&uri).body(body).unwrap();
            let response = call(api.clone(), request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let seen = response.body();
            assert_eq!(seen["client_id"], format!("private_key_jwt-{algorithm}"));
            assert_eq!(seen["cnf"]["jkt"], dpop.thumbprint());
            assert_eq!(seen["body"], format!("call {number}"));
        }
    }
}

/// A pushed request, PKCE, `iss`, a signed assertion, a code and tokens that are bound to a key, and required nonces, in one sign-in.
#[tokio::test]
async fn user_signs_in_by_the_complete_recipe_and_calls_succeed() {
    let key = signing_key(KEYS, SigningAlgorithm::ES256);
    let client = ClientAuthentication::private_key_jwt("fapi", key);
    let (sent, dpop) = (Sent::default(), DpopKey::generate().unwrap());
    let issuer = setting("OIDC_PROVIDER_NONCE");
    let endpoint = TokenEndpoint::discover(sent.record(http()), &issuer, client).dpop(dpop.clone());
    let request = AuthorizationRequest::new(REDIRECT_URI)
        .scope("openid offline_access api:read")
        .resource(API)
        .prompt("consent");
    let (url, mut pending) = endpoint.begin_authorization(request).await.unwrap();
    let (_, query) = url.split_once('?').unwrap();
    let names: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["client_id", "request_uri"]);

    let response = visit(&url).await;
    let request = pending.accept(&response).unwrap().resource(API);
    let code = request.clone();
    let tokens = TokenCache::new(endpoint.clone());
    let uri = format!("{}/nonce/required", setting("OIDC_PROVIDER_API"));
    let source = tokens.source(request);
    let layer = AddAccessTokenLayer::new(source.clone());
    let api = ServiceBuilder::new()
        .layer(layer.origin(&uri).unwrap().resend(CloneBody))
        .service(http());
    for _ in 0..3 {
        let request = Request::post(&uri).body(Full::default()).unwrap();
        let response = call(api.clone(), request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body()["client_id"], "fapi");
        assert_eq!(response.body()["cnf"]["jkt"], dpop.thumbprint());
        // The next call needs the refresh token.
        source.invalidate(&source.token().await.unwrap());
    }
    // Every request had its own proof.
    let proofs = sent.proofs();
    assert!(proofs.len() >= 4);
    assert_eq!(
        std::collections::HashSet::<&String>::from_iter(&proofs).len(),
        proofs.len()
    );

    // The server does not take the code twice.
    let error = endpoint.oneshot(code).await.unwrap_err();
    assert_eq!(
        error.error_response().unwrap().code().as_str(),
        "invalid_grant"
    );
}
