//! Tokens that are bound to a key (DPoP), at the token endpoint.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, ErrorCode, TokenEndpoint, TokenErrorKind, TokenRequest,
    TokenType,
    jwt::{
        SigningAlgorithm::{self, ES256, ES384, ES512, Ed25519, EdDSA, PS256, RS256},
        SigningKey,
    },
};

use super::{API, basic, code_request, endpoint, post, send, sign_in, signed_jwt::with_key};
use crate::{
    setting,
    support::{Http, SECRET, Sent, claims, http, invalid},
};

const TOKENS: usize = 10;
/// Each instance, and the number of requests needed to get `TOKENS` tokens from it, one after another.
const INSTANCES: [(&str, usize); 3] = [
    ("OIDC_PROVIDER", TOKENS),
    ("OIDC_PROVIDER_NONCE", TOKENS + 1),
    // The nonce changes after every third token. No other test may send requests to it at the same time.
    ("OIDC_PROVIDER_ROLLING_NONCE", TOKENS + 1 + 3),
];

#[tokio::test]
async fn token_is_bound_to_a_key_of_every_algorithm() {
    for algorithm in [ES256, ES384, ES512, RS256, PS256, EdDSA, Ed25519] {
        let key = key(algorithm);
        let endpoint = endpoint(basic()).dpop(key.clone());
        let opaque = TokenRequest::client_credentials();
        let response = endpoint.clone().oneshot(opaque).await.unwrap();
        assert_eq!(*response.token_type(), TokenType::DPOP);
        let token = response.access_token();
        assert_eq!(token.dpop_key(), Some(&key));
        let token = [("token", token.expose_secret())];
        let state = post("/token/introspection", "web", &token).await;
        assert_eq!(state["cnf"]["jkt"], key.thumbprint());

        let jwt = TokenRequest::client_credentials().resource(API);
        let response = endpoint.oneshot(jwt).await.unwrap();
        let claims = claims(response.access_token().expose_secret());
        assert_eq!(claims["cnf"]["jkt"], key.thumbprint());
    }
}

#[tokio::test]
async fn optional_required_and_rolling_nonces_are_handled() {
    for (instance, requests) in INSTANCES {
        for client in [basic(), with_key(ES256)] {
            let sent = Sent::default();
            let endpoint = TokenEndpoint::new(
                sent.record(http()),
                format!("{}/token", setting(instance)),
                client,
            );
            let endpoint = endpoint.dpop(DpopKey::generate().unwrap());
            for _ in 0..TOKENS {
                let request = TokenRequest::client_credentials();
                endpoint.clone().oneshot(request).await.unwrap();
            }
            assert_eq!(sent.len(), requests, "{instance}");
        }
    }
}

#[tokio::test]
async fn no_proof_or_assertion_is_sent_twice() {
    let endpoint = at("OIDC_PROVIDER_NONCE", with_key(ES256)).dpop(DpopKey::generate().unwrap());
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let request = TokenRequest::client_credentials();
        asking.spawn(endpoint.clone().oneshot(request));
    }
    for response in asking.join_all().await {
        response.unwrap();
    }
}

#[tokio::test]
async fn replayed_proof_is_refused() {
    let sent = Sent::default();
    let endpoint = TokenEndpoint::new(sent.record(http()), super::uri("/token"), basic());
    let endpoint = endpoint.dpop(DpopKey::generate().unwrap());
    let request = TokenRequest::client_credentials();
    endpoint.oneshot(request).await.unwrap();

    let (status, answer) = replay(sent.last()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"], "invalid_grant");
}

#[tokio::test]
async fn client_with_bound_tokens_gets_no_bearer_token() {
    let client = || ClientAuthentication::client_secret_basic("dpop", SECRET);
    let key = DpopKey::generate().unwrap();
    let request = TokenRequest::client_credentials().dpop(key.clone());
    let response = send(client(), request).await.unwrap();
    assert_eq!(response.access_token().dpop_key(), Some(&key));

    let result = send(client(), TokenRequest::client_credentials()).await;
    assert_eq!(invalid(result), ErrorCode::INVALID_GRANT);
}

#[tokio::test]
async fn refresh_token_of_a_public_client_is_bound_to_the_key() {
    let [key, another] = [ES256, ES256].map(key);
    let public = || endpoint(ClientAuthentication::none("public"));
    let request = code_request(&sign_in("public").await);
    let first = public().dpop(key.clone()).oneshot(request).await.unwrap();

    let refresh = || TokenRequest::refresh_token(first.refresh_token().unwrap().clone());
    let stolen = public().dpop(another).oneshot(refresh()).await;
    assert_eq!(invalid(stolen), ErrorCode::INVALID_GRANT);
    let second = public().dpop(key.clone()).oneshot(refresh()).await.unwrap();
    assert_eq!(second.access_token().dpop_key(), Some(&key));
}

#[tokio::test]
async fn unbound_token_is_an_error_unless_allowed() {
    let endpoint = at("OIDC_PROVIDER_BEARER", basic()).dpop(DpopKey::generate().unwrap());
    let request = TokenRequest::client_credentials;
    let error = endpoint.clone().oneshot(request()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnsupportedTokenType);
    assert_eq!(error.status(), Some(StatusCode::OK));

    let endpoint = endpoint.danger_allow_bearer();
    let response = endpoint.oneshot(request()).await.unwrap();
    assert_eq!(*response.token_type(), TokenType::BEARER);
    assert!(response.access_token().dpop_key().is_none());
}

fn key(algorithm: SigningAlgorithm) -> DpopKey {
    DpopKey::new(SigningKey::generate(algorithm).unwrap()).unwrap()
}

pub(super) fn at(instance: &str, client: ClientAuthentication) -> TokenEndpoint<Http> {
    TokenEndpoint::new(http(), format!("{}/token", setting(instance)), client)
}

/// Sends a recorded request again.
async fn replay(request: Request<Full<Bytes>>) -> (StatusCode, Value) {
    let response = http().request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}
