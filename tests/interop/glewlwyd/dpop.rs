//! Tokens that are bound to a key (DPoP).

use std::collections::BTreeSet;

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, TokenEndpoint, TokenType,
    jwt::{SigningAlgorithm::ES256, SigningKey},
};

use super::{
    Http, NONCE, ROTATING, basic, client_credentials, endpoint, http, password, refresh,
    signed_jwt::with_key, uri, web,
};
use crate::support::{Recording, SIGNATURES, Sent, claims};

// More tokens than a nonce can be used for.
const TOKENS: usize = 12;

#[tokio::test]
async fn token_is_bound_to_a_key_of_every_algorithm() {
    for algorithm in SIGNATURES {
        let key = DpopKey::new(SigningKey::generate(algorithm).unwrap()).unwrap();
        let endpoint = endpoint(ROTATING, basic()).dpop(key.clone());
        let response = endpoint.oneshot(client_credentials()).await.unwrap();
        assert_eq!(*response.token_type(), TokenType::DPOP);
        let token = response.access_token();
        assert_eq!(token.dpop_key(), Some(&key));
        let claims = claims(token.expose_secret());
        assert_eq!(claims["cnf"]["jkt"], key.thumbprint());
    }
}

#[tokio::test]
async fn nonce_changes_after_every_fifth_token() {
    for client in [basic(), with_key(ES256)] {
        let sent = Sent::default();
        let endpoint = recording(&sent, NONCE, client).dpop(DpopKey::generate().unwrap());
        for _ in 0..TOKENS {
            let request = client_credentials();
            endpoint.clone().oneshot(request).await.unwrap();
        }
        // The response to the last use contains the next nonce, so only the first request is refused.
        assert_eq!(sent.len(), TOKENS + 1);
        let proofs = sent.header("dpop");
        let nonces = proofs
            .iter()
            .map(|proof| claims(proof)["nonce"].to_string());
        let nonces: BTreeSet<_> = nonces.skip(1).collect();
        assert!(nonces.len() >= 2, "{nonces:?}");
    }
}

#[tokio::test]
async fn replayed_proof_is_refused() {
    let sent = Sent::default();
    let endpoint = recording(&sent, ROTATING, basic()).dpop(DpopKey::generate().unwrap());
    endpoint.oneshot(client_credentials()).await.unwrap();

    let response = http().oneshot(sent.last()).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["error"], "invalid_dpop_proof");
}

#[tokio::test]
async fn refreshed_token_is_bound_to_the_same_key() {
    let key = DpopKey::generate().unwrap();
    let endpoint = endpoint(ROTATING, web()).dpop(key.clone());
    let first = endpoint.clone().oneshot(password()).await.unwrap();
    let second = endpoint.oneshot(refresh(&first)).await.unwrap();
    for response in [first, second] {
        let claims = claims(response.access_token().expose_secret());
        assert_eq!(claims["cnf"]["jkt"], key.thumbprint());
    }
}

fn recording(
    sent: &Sent,
    issuer: &str,
    client: ClientAuthentication,
) -> TokenEndpoint<Recording<Http>> {
    TokenEndpoint::new(sent.record(http()), uri(issuer, "/token"), client)
}
