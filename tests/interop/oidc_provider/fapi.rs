//! FAPI 2.0: signed client assertions, bound tokens, required nonces.

use http::{Request, StatusCode};
use http_body_util::Full;
use tower::ServiceBuilder;
use tower_oauth2_client::{
    AddAccessTokenLayer, ClientAuthentication, DpopKey, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::CloneBody,
    jwt::{SigningAlgorithm, SigningKey},
};

use super::{API, KEYS};
use crate::{
    setting,
    support::{call, http, pem},
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
