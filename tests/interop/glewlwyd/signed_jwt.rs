//! Clients that authenticate with signed JWTs. This server accepts only the token endpoint as the audience.

use http::StatusCode;
use tower::ServiceExt as _;
use tower_oauth2_client::{
    ClientAuthentication, TokenEndpoint, TokenError, TokenResponse,
    jwt::{
        ClientAssertion,
        SigningAlgorithm::{self, ES256, HS256, PS256},
        SigningKey,
    },
};

use super::{
    KEYS, ROTATING, client_credentials, client_of, endpoint, http, refused_without_a_body, send,
    uri,
};
use crate::support::{HMAC, HMAC_SECRET, SECRET, SIGNATURES, Sent, field, pem, signing_key};

#[tokio::test]
async fn every_algorithm_authenticates_the_client() {
    let clients = HMAC.map(with_secret).into_iter();
    for client in clients.chain(SIGNATURES.map(with_key)) {
        let id = client.client_id().to_owned();
        let response = ask(client).await.unwrap();
        assert_eq!(client_of(&response), id);
    }
}

#[tokio::test]
async fn wrong_signature_or_audience_returns_403_without_a_body() {
    let private_key_jwt = |key| ClientAuthentication::private_key_jwt("private_key_jwt-ES256", key);
    let nameless = SigningKey::from_pem(pem(KEYS, "signing-es256.key"), ES256).unwrap();
    let another = SigningKey::generate(ES256).unwrap().kid("ES256");
    let new = ClientAssertion::new;
    for client in [
        private_key_jwt(nameless),
        private_key_jwt(another),
        private_key_jwt(signing_key(KEYS, ES256).kid("another")),
        ClientAuthentication::client_secret_jwt("client_secret_jwt", SECRET, HS256),
        with_key(ES256).assertion(new().audience(uri(ROTATING, ""))),
        with_key(ES256).assertion(new().audiences([uri(ROTATING, "/token")])),
    ] {
        refused_without_a_body(ask(client).await, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn discovered_server_requires_the_token_endpoint_as_audience() {
    let discover = |client| TokenEndpoint::discover(http(), uri(ROTATING, ""), client);
    let ask = |client| discover(client).oneshot(client_credentials());
    refused_without_a_body(ask(with_key(ES256)).await, StatusCode::FORBIDDEN);

    let audience = ClientAssertion::new().audience(uri(ROTATING, "/token"));
    ask(with_key(ES256).assertion(audience)).await.unwrap();
}

#[tokio::test]
async fn no_assertion_is_sent_twice() {
    let endpoint = endpoint(ROTATING, with_key(PS256));
    for _ in 0..10 {
        let request = client_credentials();
        endpoint.clone().oneshot(request).await.unwrap();
    }
}

#[tokio::test]
async fn replayed_assertion_returns_403_without_a_body() {
    for client in [with_key(ES256), with_secret(HS256)] {
        let id = client.client_id().to_owned();
        let sent = Sent::default();
        TokenEndpoint::new(sent.record(http()), uri(ROTATING, "/token"), client)
            .oneshot(client_credentials())
            .await
            .unwrap();
        let assertion = field(sent.last(), "client_assertion").await;
        let replay = ClientAuthentication::client_assertion(id, assertion);
        refused_without_a_body(ask(replay).await, StatusCode::FORBIDDEN);
    }
}

fn with_secret(algorithm: SigningAlgorithm) -> ClientAuthentication {
    ClientAuthentication::client_secret_jwt("client_secret_jwt", HMAC_SECRET, algorithm)
}

pub(super) fn with_key(algorithm: SigningAlgorithm) -> ClientAuthentication {
    let id = format!("private_key_jwt-{algorithm}");
    ClientAuthentication::private_key_jwt(id, signing_key(KEYS, algorithm))
}

async fn ask(client: ClientAuthentication) -> Result<TokenResponse, TokenError> {
    send(client, client_credentials()).await
}
