//! Clients that authenticate with signed JWTs: `client_secret_jwt` and `private_key_jwt`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, ErrorCode, TokenEndpoint, TokenError, TokenErrorKind,
    TokenRequest, TokenResponse,
    jwt::{
        ClientAssertion,
        SigningAlgorithm::{self, ES256, ES384, Ed25519, HS256, HS384, PS256, RS256},
        SigningKey,
    },
    token_endpoint::RetryTransient,
};

use super::{KEYS, client_of, endpoint, send, uri};
use crate::{
    setting,
    support::{
        HMAC, HMAC_SECRET, SECRET, SIGNATURES, Sent, field, http, pem, refused, signing_key,
    },
};

#[tokio::test]
async fn every_algorithm_authenticates_the_client() {
    for client in HMAC
        .map(with_secret)
        .into_iter()
        .chain(SIGNATURES.map(with_key))
        .chain([with_key(Ed25519)])
    {
        let id = client.client_id().to_owned();
        let response = ask(client).await.unwrap();
        assert_eq!(client_of(response.access_token().expose_secret()).await, id);
    }
}

#[tokio::test]
async fn every_algorithm_of_the_server_is_tested() {
    let metadata = uri("/.well-known/openid-configuration");
    let metadata = http().get(metadata.parse().unwrap()).await.unwrap();
    let metadata = metadata.into_body().collect().await.unwrap().to_bytes();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();

    let listed = metadata["token_endpoint_auth_signing_alg_values_supported"].as_array();
    let listed = listed.unwrap().iter().map(|name| name.as_str().unwrap());
    let listed: BTreeSet<_> = listed.collect();
    let tested = HMAC.iter().chain(&SIGNATURES).chain(&[Ed25519]);
    let tested = tested.map(|algorithm| algorithm.as_str());
    assert_eq!(listed, tested.collect());
}

#[tokio::test]
async fn certificate_thumbprint_identifies_the_key() {
    let key = SigningKey::from_pem(pem(KEYS, "signing-es256.key"), ES256).unwrap();
    let client = |key| ClientAuthentication::private_key_jwt("private_key_jwt-x5t", key);
    let named = key.clone().certificate(pem(KEYS, "signing-es256.pem"));

    ask(client(named.unwrap())).await.unwrap();
    assert_eq!(refusal(ask(client(key)).await), ErrorCode::INVALID_CLIENT);
}

#[tokio::test]
async fn every_form_of_the_server_audience_is_accepted() {
    let (issuer, token_endpoint) = (setting("OIDC_PROVIDER"), uri("/token"));
    let new = ClientAssertion::new;
    for good in [
        new(),
        new().audience(&*issuer),
        new().audience(&*token_endpoint),
        new().audiences([&*issuer]),
        new().audiences([&*issuer, &token_endpoint]),
    ] {
        ask(with_key(PS256).assertion(good)).await.unwrap();
    }
    for other in [
        new().audience("https://another.example"),
        new().audience(format!("{issuer}/")),
    ] {
        let result = ask(with_key(PS256).assertion(other)).await;
        assert_eq!(refusal(result), ErrorCode::INVALID_CLIENT);
    }
}

#[tokio::test]
async fn wrong_key_algorithm_or_secret_returns_invalid_client() {
    let id = |algorithm| format!("private_key_jwt-{algorithm}");
    let private_key_jwt = ClientAuthentication::private_key_jwt;
    let client_secret_jwt = ClientAuthentication::client_secret_jwt;
    let another = SigningKey::generate(ES256).unwrap().kid("ES256");
    for client in [
        private_key_jwt(id(ES256), another),
        private_key_jwt(id(ES256), signing_key(KEYS, ES256).kid("another")),
        // The algorithm is not the one registered for the client.
        private_key_jwt(id(RS256), signing_key(KEYS, PS256).kid("RS256")),
        private_key_jwt(id(ES384), signing_key(KEYS, ES256)),
        client_secret_jwt("client_secret_jwt-HS256", HMAC_SECRET, HS384),
        client_secret_jwt("client_secret_jwt-HS256", SECRET, HS256),
        // The method is not the one registered for the client.
        client_secret_jwt("basic", HMAC_SECRET, HS256),
    ] {
        assert_eq!(refusal(ask(client).await), ErrorCode::INVALID_CLIENT);
    }
}

#[tokio::test]
async fn no_assertion_is_sent_twice() {
    for client in [with_key(ES256), with_secret(HS256)] {
        let endpoint = endpoint(client);
        // The server refuses an assertion that it has seen before.
        for _ in 0..50 {
            let request = TokenRequest::client_credentials();
            endpoint.clone().oneshot(request).await.unwrap();
        }
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let request = TokenRequest::client_credentials();
            asking.spawn(endpoint.clone().oneshot(request));
        }
        for response in asking.join_all().await {
            response.unwrap();
        }
    }
}

#[tokio::test]
async fn replayed_assertion_is_refused() {
    let sent = Sent::default();
    let nobody = service_fn(|_: Request<Full<Bytes>>| async {
        Err::<http::Response<Full<Bytes>>, BoxError>("the server is unreachable".into())
    });
    let request = TokenRequest::client_credentials();
    let nowhere = TokenEndpoint::new(sent.record(nobody), uri("/token"), with_key(ES256));
    let error = nowhere.oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Service);

    let assertion = field(sent.last(), "client_assertion").await;
    let replay = ClientAuthentication::client_assertion("private_key_jwt-ES256", assertion);
    ask(replay.clone()).await.unwrap();
    assert_eq!(refusal(ask(replay).await), ErrorCode::INVALID_CLIENT);
}

#[tokio::test]
async fn every_retry_has_a_new_assertion() {
    let (sent, is_first) = (Sent::default(), Arc::new(AtomicBool::new(true)));
    let http = sent.record(http());
    // The server processes the first request, but its response is lost.
    let gateway = service_fn(move |request: Request<Full<Bytes>>| {
        let (http, is_first) = (http.clone(), is_first.clone());
        async move {
            let mut response = http.oneshot(request).await?;
            if is_first.swap(false, Ordering::Relaxed) {
                assert_eq!(response.status(), StatusCode::OK);
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let endpoint = ServiceBuilder::new()
        .retry(RetryTransient::new())
        .service(TokenEndpoint::new(gateway, uri("/token"), with_key(ES256)));

    let request = TokenRequest::client_credentials();
    endpoint.oneshot(request).await.unwrap();
    assert_eq!(sent.len(), 2);
}

fn with_secret(algorithm: SigningAlgorithm) -> ClientAuthentication {
    let id = format!("client_secret_jwt-{algorithm}");
    ClientAuthentication::client_secret_jwt(id, HMAC_SECRET, algorithm)
}

pub(super) fn with_key(algorithm: SigningAlgorithm) -> ClientAuthentication {
    let id = format!("private_key_jwt-{algorithm}");
    ClientAuthentication::private_key_jwt(id, signing_key(KEYS, algorithm))
}

async fn ask(client: ClientAuthentication) -> Result<TokenResponse, TokenError> {
    send(client, TokenRequest::client_credentials()).await
}

/// Returns the error code of a 401 response, and checks that the error message contains it.
fn refusal(result: Result<TokenResponse, TokenError>) -> ErrorCode {
    let message = result.as_ref().unwrap_err().to_string();
    let (code, status) = refused(result);
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(message.contains(code.as_str()), "{message}");
    code
}
