//! `AuthorizationServerBuilder::private_key_jwt_client`: the server of `test_util` verifies client assertions by the public key.
#![cfg(all(feature = "jwt", feature = "test-util"))]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, RevocationEndpoint, RevocationRequest, TokenEndpoint, TokenError,
    TokenRequest,
    jwt::{ClientAssertion, Signer, SigningAlgorithm, SigningKey},
    test_util::{AuthorizationServer, AuthorizationServerBuilder},
};

const ALGORITHMS: [SigningAlgorithm; 5] = [
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
];

fn key(algorithm: SigningAlgorithm) -> SigningKey {
    match algorithm {
        // RSA keys are not generated here.
        SigningAlgorithm::PS256 | SigningAlgorithm::RS256 => {
            let pem = include_str!("fixtures/keys/rsa-pkcs8.pem");
            SigningKey::from_pem(pem, algorithm).unwrap()
        }
        _ => SigningKey::generate(algorithm).unwrap(),
    }
}

fn builder(key: &SigningKey) -> AuthorizationServerBuilder {
    AuthorizationServer::builder().private_key_jwt_client("orders", key.public_jwk())
}

async fn ask(server: &AuthorizationServer, client: ClientAuthentication) -> Result<(), TokenError> {
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    let response = endpoint.oneshot(TokenRequest::client_credentials()).await;
    response.map(drop)
}

#[track_caller]
fn assert_refused(result: Result<(), TokenError>, why: &str) {
    let error = result.expect_err(why);
    let response = error.error_response().unwrap();
    assert_eq!(response.code().as_str(), "invalid_client");
    let description = response.description().unwrap_or_default();
    assert!(description.contains(why), "{error}");
}

#[tokio::test]
async fn assertions_of_every_algorithm_are_accepted() {
    for algorithm in ALGORITHMS {
        let key = key(algorithm).kid_from_thumbprint();
        let server = builder(&key).build();
        let client = ClientAuthentication::private_key_jwt("orders", key);
        // Each request has an assertion of its own.
        for _ in 0..2 {
            ask(&server, client.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_issuer_and_each_endpoint_are_audiences_and_discovery_works() {
    let key = key(SigningAlgorithm::ES256);
    let server = builder(&key).issuer("https://as.example").build();
    let client = ClientAuthentication::private_key_jwt("orders", key);
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::discover(server.clone(), server.issuer(), client.clone());
    let response = endpoint.clone().oneshot(TokenRequest::client_credentials());
    let token = response.await.unwrap().access_token().clone();
    let revocation: RevocationEndpoint<_> =
        TokenEndpoint::discover(server.clone(), server.issuer(), client.clone()).revocation();
    let request = RevocationRequest::new(token.expose_secret());
    revocation.oneshot(request).await.unwrap();
    assert!(!server.is_active(token.expose_secret()));

    let audience = |audience: &str| {
        let assertion = ClientAssertion::new().audience(audience);
        client.clone().assertion(assertion)
    };
    ask(&server, audience("https://as.example")).await.unwrap();
    ask(&server, audience("https://as.example/token"))
        .await
        .unwrap();
    for other in ["https://as.example/", "https://other.example", "as.example"] {
        assert_refused(ask(&server, audience(other)).await, "`aud`");
    }
}

#[tokio::test]
async fn another_key_another_client_and_another_kid_are_refused() {
    let key = key(SigningAlgorithm::ES256).kid("2026");
    let server = builder(&key).client("basic", "secret").build();
    let other = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    for (client, why) in [
        (
            ClientAuthentication::private_key_jwt("orders", other),
            "the signature",
        ),
        (
            ClientAuthentication::private_key_jwt("orders", key.clone().kid("2025")),
            "`kid`",
        ),
        (
            ClientAuthentication::private_key_jwt("basic", key.clone()),
            "not accepted",
        ),
        (
            ClientAuthentication::private_key_jwt("unknown", key.clone()),
            "not accepted",
        ),
        (
            ClientAuthentication::client_secret_basic("orders", "secret"),
            "does not authenticate with Basic",
        ),
        (
            ClientAuthentication::client_assertion("orders", "a.b"),
            "three parts",
        ),
        (ClientAuthentication::none("orders"), "did not authenticate"),
    ] {
        assert_refused(ask(&server, client).await, why);
    }
    ask(
        &server,
        ClientAuthentication::private_key_jwt("orders", key),
    )
    .await
    .unwrap();
}

/// An RSA key fits several algorithms. The JWK names one.
#[tokio::test]
async fn another_algorithm_than_that_of_the_jwk_is_refused() {
    let registered = key(SigningAlgorithm::PS256);
    let server = builder(&registered).build();
    let other = || ClientAuthentication::private_key_jwt("orders", key(SigningAlgorithm::RS256));
    assert_refused(ask(&server, other()).await, "`alg`");

    let mut jwk = registered.public_jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let server = AuthorizationServer::builder()
        .private_key_jwt_client("orders", jwk)
        .build();
    ask(&server, other()).await.unwrap();
}

#[allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; a server reads its own clock"
)]
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Signs claims of any kind.
async fn sign(key: &SigningKey, header: Value, claims: &Value) -> String {
    let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let signature = key.sign(signed.as_bytes()).await.unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn each_claim_is_checked() {
    let key = key(SigningAlgorithm::ES256);
    let server = builder(&key).build();
    let now = unix_now();
    let good = json!({
        "iss": "orders", "sub": "orders", "aud": "https://as.test/token", "exp": now + 60, "jti": "1",
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value,
        }
        claims
    };
    for (claims, why) in [
        (with("iss", "other".into()), "`iss`"),
        (with("iss", Value::Null), "`iss`"),
        (with("sub", "other".into()), "`sub`"),
        (with("sub", Value::Null), "`sub`"),
        (with("aud", "https://as.test/other".into()), "`aud`"),
        (with("aud", json!([])), "`aud`"),
        (with("aud", Value::Null), "`aud`"),
        (with("exp", Value::Null), "`exp`"),
        (with("exp", json!(now - 1)), "expired"),
        (with("exp", "soon".into()), "`exp`"),
        (with("iat", json!(now + 60)), "in the future"),
        (with("nbf", json!(now + 60)), "in the future"),
        (with("jti", Value::Null), "`jti`"),
        (with("jti", "".into()), "`jti`"),
    ] {
        let assertion = sign(&key, json!({ "alg": "ES256" }), &claims).await;
        let client = ClientAuthentication::client_assertion("orders", assertion);
        assert_refused(ask(&server, client).await, why);
    }
    for header in [
        json!({}),
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
    ] {
        let assertion = sign(&key, header, &good).await;
        let client = ClientAuthentication::client_assertion("orders", assertion);
        assert_refused(ask(&server, client).await, "`alg`");
    }
    // The refused ones have used up no `jti`. An accepted one has, even under another signature.
    let audiences = with("aud", json!(["https://other.example", "https://as.test"]));
    for (claims, jti) in [(good.clone(), "1"), (audiences, "2")] {
        let mut claims = claims;
        claims["jti"] = jti.into();
        for attempt in 0..2 {
            let assertion = sign(&key, json!({ "alg": "ES256" }), &claims).await;
            let client = ClientAuthentication::client_assertion("orders", assertion);
            let result = ask(&server, client).await;
            match attempt {
                0 => result.unwrap(),
                _ => assert_refused(result, "used before"),
            }
        }
    }
}

/// The time of the assertion is that of the system, whatever the clock of the server says.
#[tokio::test]
async fn the_clock_of_the_server_does_not_matter() {
    let key = key(SigningAlgorithm::ES256);
    let server = builder(&key).build();
    server.clock().advance(Duration::from_secs(1_000_000));
    ask(
        &server,
        ClientAuthentication::private_key_jwt("orders", key),
    )
    .await
    .unwrap();
}

#[test]
fn a_jwk_that_is_none_fails_the_test() {
    for jwk in ["", "{}", r#"{"kty":"oct","k":"c2VjcmV0"}"#] {
        let built = std::panic::catch_unwind(|| {
            drop(AuthorizationServer::builder().private_key_jwt_client("orders", jwk));
        });
        assert!(built.is_err(), "{jwk}");
    }
}
