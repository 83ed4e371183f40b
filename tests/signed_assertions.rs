//! Client assertions that this crate signs, verified with a third-party library, and the keys that sign them.
//!
//! OpenSSL generated the keys in `fixtures/keys` for these tests. They protect nothing.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::Request;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceExt, retry::Retry};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, TokenCache, TokenEndpoint, TokenErrorKind,
    TokenRequest,
    jwt::{
        ClientAssertion, InvalidKey, PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey,
    },
    test_util::AuthorizationServer,
    token_endpoint::RetryTransient,
};

use self::support::{GOOD, Log, Recorder, URI, answer, form};

use SigningAlgorithm::{
    ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, MlDsa44, MlDsa87, PS256, PS384, PS512, RS256,
    RS384, RS512,
};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/keys/", $name))
    };
}

const RSA: [SigningAlgorithm; 6] = [RS256, RS384, RS512, PS256, PS384, PS512];
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// RFC 7515 A.2 and A.3, RFC 8037 A.1.
const RFC_RSA: &str = fixture!("rfc7515-a2.jwk.json");
const RFC_EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
const RFC_ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn p256() -> SigningKey {
    SigningKey::from_pem(fixture!("p256-pkcs8.pem"), ES256).unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    let body = pem.rsplit_once("\n-----END").unwrap().0;
    let body = body.rsplit_once("-----\n").unwrap().1.replace('\n', "");
    base64::prelude::BASE64_STANDARD.decode(body).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

async fn send(client: ClientAuthentication) -> Request<Bytes> {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(client);
    let request = TokenRequest::client_credentials();
    endpoint
        .oneshot(request)
        .await
        .expect("the request should be valid");
    recorder.take_one()
}

/// Asserts that a client is refused before anything is sent. Returns the kind and the message of the error.
async fn refused(client: ClientAuthentication) -> (TokenErrorKind, String) {
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(client);
    let request = TokenRequest::client_credentials();
    let error = endpoint.oneshot(request).await.unwrap_err();
    assert_eq!(recorder.calls(), 0, "{error}");
    let source = std::error::Error::source(&error).and_then(|source| source.source());
    let source = source.map(ToString::to_string);
    (
        error.kind(),
        format!("{error} {}", source.unwrap_or_default()),
    )
}

fn parameter(sent: &Request<Bytes>, name: &str) -> String {
    let mut pairs = form(sent.body()).into_iter().filter(|(n, _)| n == name);
    let (_, value) = pairs.next().unwrap_or_else(|| panic!("no `{name}`"));
    assert!(pairs.next().is_none(), "two `{name}`");
    value
}

fn public(key: &impl Signer) -> DecodingKey {
    let jwk = key.public_key().unwrap().as_json();
    DecodingKey::from_jwk(&serde_json::from_str(jwk).unwrap()).unwrap()
}

/// Verifies the signature of an assertion and returns its header and claims.
fn verify(token: &str, algorithm: SigningAlgorithm, key: &DecodingKey) -> (Value, Value) {
    let mut validation = Validation::new(algorithm.as_str().parse::<Algorithm>().unwrap());
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    let claims = jsonwebtoken::decode::<Value>(token, key, &validation).unwrap();
    let header = token.split('.').next().unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    (serde_json::from_slice(&header).unwrap(), claims.claims)
}

async fn signed_by(key: SigningKey) -> (Value, Value) {
    let (decoding, algorithm) = (public(&key), key.algorithm());
    let sent = send(ClientAuthentication::private_key_jwt("c", key)).await;
    assert_eq!(parameter(&sent, "client_id"), "c");
    assert_eq!(parameter(&sent, "client_assertion_type"), JWT_BEARER);
    assert!(!sent.headers().contains_key("authorization"));
    verify(&parameter(&sent, "client_assertion"), algorithm, &decoding)
}

/// Returns one key of each kind, as PEM and as JWK, with the algorithms that it can sign with.
fn key_formats() -> Vec<(&'static [SigningAlgorithm], Vec<&'static str>, &'static str)> {
    vec![
        (
            &RSA,
            vec![fixture!("rsa-pkcs8.pem"), fixture!("rsa-pkcs1.pem")],
            fixture!("rsa.jwk.json"),
        ),
        (
            &[ES256],
            vec![fixture!("p256-pkcs8.pem"), fixture!("p256-sec1.pem")],
            fixture!("p256.jwk.json"),
        ),
        (
            &[ES384],
            vec![fixture!("p384-pkcs8.pem"), fixture!("p384-sec1.pem")],
            fixture!("p384.jwk.json"),
        ),
        (
            &[EdDSA],
            vec![fixture!("ed25519-pkcs8.pem")],
            fixture!("ed25519.jwk.json"),
        ),
    ]
}

#[tokio::test]
async fn every_algorithm_and_key_format_is_verified_by_another_library() {
    for (algorithms, pems, jwk) in key_formats() {
        let public_key = PublicKey::from_jwk(jwk).unwrap();
        for &algorithm in algorithms {
            let mut keys = vec![SigningKey::from_jwk_with(jwk, algorithm).unwrap()];
            for pem in &pems {
                keys.push(SigningKey::from_pem(pem, algorithm).unwrap());
                keys.push(SigningKey::from_der(der(pem), algorithm).unwrap());
            }
            for key in keys {
                assert_eq!(key.public_key(), Some(&public_key));
                let (header, _) = signed_by(key).await;
                assert_eq!(header["alg"], algorithm.as_str());
                assert_eq!(header["typ"], "JWT");
            }
        }
    }
    for algorithm in [RS256, PS512, ES256, ES384, EdDSA] {
        let key = SigningKey::generate(algorithm).unwrap();
        let other = SigningKey::generate(algorithm).unwrap();
        assert_ne!(key.public_key(), other.public_key());
        signed_by(key).await;
    }
}

#[tokio::test]
async fn kid_and_alg_of_a_jwk_are_used() {
    for (algorithms, _, jwk) in key_formats() {
        let key = SigningKey::from_jwk(jwk).unwrap();
        let expected: Value = serde_json::from_str(jwk).unwrap();
        let (header, _) = signed_by(key.clone()).await;
        assert_eq!(header["kid"], expected["kid"]);
        assert!(algorithms.contains(&key.algorithm()));
        if let Some(algorithm) = expected.get("alg") {
            assert_eq!(header["alg"], *algorithm);
        }
        let (header, _) = signed_by(key.kid("mine")).await;
        assert_eq!(header["kid"], "mine");
    }
}

#[tokio::test]
async fn signatures_match_the_rfcs() {
    const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let sign = async |key: SigningKey, input: &str| {
        BASE64_URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).await.unwrap())
    };

    // RFC 7515 A.2
    let key = SigningKey::from_jwk(RFC_RSA).unwrap();
    assert_eq!(
        sign(key, &format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}")).await,
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9\
         CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_\
         dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN\
         _IoypGlUPQGe77Rw"
    );

    // RFC 7515 A.3: each signature is different.
    let key = SigningKey::from_jwk(RFC_EC).unwrap();
    let input = format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}");
    let decoding = public(&key);
    let signature = sign(key, &input).await;
    let rfc =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    for signature in [signature.as_str(), rfc] {
        let input = input.as_bytes();
        assert!(
            jsonwebtoken::crypto::verify(signature, input, &decoding, Algorithm::ES256).unwrap()
        );
    }

    // RFC 8037 A.4
    let key = SigningKey::from_jwk(RFC_ED25519).unwrap();
    assert_eq!(
        sign(
            key,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        )
        .await,
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; this test reads the time of day"
)]
async fn an_assertion_has_exactly_the_claims_of_a_client_assertion() {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (_, claims) = signed_by(p256()).await;
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();

    assert_eq!(claims["iss"], "c");
    assert_eq!(claims["sub"], "c");
    assert_eq!(claims["aud"], URI);
    let iat = claims["iat"].as_u64().unwrap();
    assert!((before.as_secs()..=after.as_secs()).contains(&iat));
    assert_eq!(claims["exp"], iat + 60);
    let jti = BASE64_URL_SAFE_NO_PAD.decode(claims["jti"].as_str().unwrap());
    assert!(jti.unwrap().len() >= 16);
    assert_eq!(claims.as_object().unwrap().len(), 6, "{claims}");
}

#[tokio::test]
async fn configured_values_appear_in_the_assertion() {
    for (assertion, aud) in [
        (ClientAssertion::new(), json!(URI)),
        (
            ClientAssertion::new().audience("https://as.example"),
            json!("https://as.example"),
        ),
        (ClientAssertion::new().audiences(["a"]), json!(["a"])),
        (
            ClientAssertion::new().audiences(["a", "b"]),
            json!(["a", "b"]),
        ),
    ] {
        let assertion = assertion
            .lifetime(Duration::from_secs(30))
            .claim("n\"b", json!({"x": [1, null, "\u{1F511}"]}))
            .header("typ", "client-authentication+jwt")
            .header("x", "1");
        let key = p256().kid("k\\1");
        let decoding = public(&key);
        let client = ClientAuthentication::private_key_jwt("c\"\u{e9}", key).assertion(assertion);
        let sent = send(client).await;
        let (header, claims) = verify(&parameter(&sent, "client_assertion"), ES256, &decoding);
        assert_eq!(
            header,
            json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": "k\\1", "x": "1"})
        );
        assert_eq!(claims["aud"], aud);
        assert_eq!(claims["sub"], "c\"\u{e9}");
        assert_eq!(claims["n\"b"], json!({"x": [1, null, "\u{1F511}"]}));
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(exp - iat, 30);
    }
}

#[tokio::test]
async fn the_token_endpoint_of_the_request_is_the_audience() {
    let key = p256();
    let decoding = public(&key);
    let recorder = Recorder::good();
    let request =
        TokenRequest::client_credentials().token_endpoint("https://other.example/t?tenant=1");
    let endpoint = recorder.endpoint(ClientAuthentication::private_key_jwt("c", key));
    endpoint.oneshot(request).await.unwrap();
    let assertion = parameter(&recorder.take_one(), "client_assertion");
    let (_, claims) = verify(&assertion, ES256, &decoding);
    assert_eq!(claims["aud"], "https://other.example/t?tenant=1");
}

const SECRET: &str = "a secret of sixty-four bytes, which is what the longest hash has";

#[tokio::test]
async fn a_client_secret_signs_the_assertion_and_is_not_sent() {
    assert_eq!(SECRET.len(), 64);
    let provider = Credential::from_fn(|| async { Ok::<_, BoxError>(SECRET) });
    for algorithm in [HS256, HS384, HS512] {
        for secret in [Credential::fixed(SECRET), provider.clone()] {
            let client = ClientAuthentication::client_secret_jwt("c", secret, algorithm);
            assert_eq!(format!("{client:?}"), r#"client_secret_jwt("c")"#);
            let sent = send(client).await;
            assert!(form(sent.body()).iter().all(|(_, value)| value != SECRET));
            assert_eq!(parameter(&sent, "client_assertion_type"), JWT_BEARER);
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            let assertion = parameter(&sent, "client_assertion");
            let (header, claims) = verify(&assertion, algorithm, &key);
            assert_eq!(header, json!({"alg": algorithm.as_str(), "typ": "JWT"}));
            assert_eq!(claims["iss"], "c");
        }
    }
}

#[tokio::test]
async fn a_secret_shorter_than_the_hash_is_refused_before_anything_is_sent() {
    for (algorithm, min) in [(HS256, 32), (HS384, 48), (HS512, 64)] {
        for (length, is_valid) in [(min, true), (min - 1, false), (0, false)] {
            let secret = "s".repeat(length);
            let provided = secret.clone();
            let provider = Credential::from_fn(move || {
                let secret = provided.clone();
                async move { Ok::<_, BoxError>(secret) }
            });
            for secret in [Credential::fixed(secret), provider] {
                let client = ClientAuthentication::client_secret_jwt("c", secret, algorithm);
                if is_valid {
                    send(client).await;
                    continue;
                }
                let (kind, error) = refused(client).await;
                assert_eq!(kind, TokenErrorKind::Request);
                assert!(error.contains("client_secret"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn incompatible_settings_are_refused_before_anything_is_sent() {
    struct Hmac;
    impl Signer for Hmac {
        fn algorithm(&self) -> SigningAlgorithm {
            HS256
        }
        fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
            unreachable!("the signer must not be called")
        }
    }
    struct WrongAlgorithm(PublicKey);
    impl Signer for WrongAlgorithm {
        fn algorithm(&self) -> SigningAlgorithm {
            PS256
        }
        fn public_key(&self) -> Option<&PublicKey> {
            Some(&self.0)
        }
        fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
            unreachable!("the signer must not be called")
        }
    }
    let with_key = || ClientAuthentication::private_key_jwt("c", p256());
    let assertion = ClientAssertion::new;
    for (client, named) in [
        (
            ClientAuthentication::private_key_jwt(
                "c",
                WrongAlgorithm(p256().public_key().unwrap().clone()),
            ),
            "curve P-256, but PS256",
        ),
        (
            ClientAuthentication::private_key_jwt("c", Hmac),
            "client_secret_jwt",
        ),
        (
            ClientAuthentication::client_secret_jwt("c", SECRET, ES256),
            "private_key_jwt",
        ),
        (
            ClientAuthentication::private_key_jwt("", p256()),
            "`client_id`",
        ),
        (with_key().assertion(assertion().claim("jti", "x")), "`jti`"),
        (
            with_key().assertion(
                assertion()
                    .claim("iat", 1)
                    .iat_before_now(Duration::from_secs(1)),
            ),
            "`iat`",
        ),
        (
            with_key().assertion(assertion().header("alg", "x")),
            "`alg`",
        ),
        (
            with_key().assertion(assertion().lifetime(Duration::ZERO)),
            "lifetime",
        ),
        (
            ClientAuthentication::client_secret_basic("c", "s").assertion(assertion()),
            "`client_secret_basic` does not sign one",
        ),
        (
            ClientAuthentication::client_assertion("c", "e30.e30.").assertion(assertion()),
            "`client_assertion` does not sign one",
        ),
        (
            ClientAuthentication::anonymous().assertion(assertion()),
            "`anonymous` does not sign one",
        ),
    ] {
        let (kind, error) = refused(client).await;
        assert_eq!(kind, TokenErrorKind::Request, "{error}");
        assert!(error.contains(named), "{error}");
    }
    for name in [
        "client_id",
        "client_assertion",
        "client_assertion_type",
        "client_secret",
    ] {
        let recorder = Recorder::good();
        let request = TokenRequest::client_credentials().parameter(name, "x");
        let error = recorder.endpoint(with_key()).oneshot(request).await;
        assert!(error.unwrap_err().to_string().contains(name));
        assert_eq!(recorder.calls(), 0);
    }
}

/// Row 18 of the project's list of bugs in other clients (Duende foss #323): the same assertion was sent again.
#[tokio::test(start_paused = true)]
async fn every_attempt_has_a_new_assertion() {
    for client in [
        ClientAuthentication::private_key_jwt("c", p256()),
        ClientAuthentication::client_secret_jwt("c", SECRET, HS256),
    ] {
        let recorder = Recorder::new(|number| match number {
            0 | 1 => answer(503, ""),
            _ => answer(200, GOOD),
        });
        let policy = RetryTransient::new().max_retries(2);
        Retry::new(policy, recorder.endpoint(client))
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap();
        let mut ids: Vec<_> = recorder
            .take()
            .iter()
            .map(|sent| {
                let assertion = parameter(sent, "client_assertion");
                let claims = assertion.split('.').nth(1).unwrap();
                let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                claims["jti"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(ids.len(), 3);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }
}

/// A remote key, which takes a while to sign and may fail.
struct Remote {
    key: SigningKey,
    calls: Arc<AtomicUsize>,
    answer: fn(Vec<u8>) -> Result<Vec<u8>, BoxError>,
}

impl Remote {
    fn new(answer: fn(Vec<u8>) -> Result<Vec<u8>, BoxError>) -> Self {
        Self {
            key: p256(),
            calls: Arc::default(),
            answer,
        }
    }
}

impl Signer for Remote {
    fn algorithm(&self) -> SigningAlgorithm {
        ES256
    }

    fn key_id(&self) -> Option<&str> {
        Some("in the vault")
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            tokio::task::yield_now().await;
            (self.answer)(self.key.sign(message).await?)
        })
    }
}

#[tokio::test]
async fn a_request_waits_for_a_remote_signer() {
    let remote = Arc::new(Remote::new(Ok));
    let decoding = public(&remote.key);
    let client = ClientAuthentication::private_key_jwt("c", remote.clone());
    let recorder = Recorder::good();
    let mut endpoint = recorder.endpoint(client);
    let mut call = task::spawn(async move {
        endpoint
            .ready()
            .await?
            .call(TokenRequest::client_credentials())
            .await
    });
    assert_pending!(call.poll());
    assert_eq!(recorder.calls(), 0);
    call.await.unwrap();
    let assertion = parameter(&recorder.take_one(), "client_assertion");
    let (header, _) = verify(&assertion, ES256, &decoding);
    assert_eq!(header["kid"], "in the vault");
    assert_eq!(remote.calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_local_key_signs_on_the_first_poll() {
    let key = p256();
    assert_ready!(task::spawn(key.sign(b"message")).poll()).unwrap();
}

#[tokio::test]
async fn a_failing_signer_is_a_credential_error_and_nothing_is_sent() {
    type Answer = fn(Vec<u8>) -> Result<Vec<u8>, BoxError>;
    for (answer, named) in [
        ((|_| Err("the vault is sealed".into())) as Answer, "sealed"),
        // AWS KMS returns DER.
        ((|_| Ok(vec![0x30; 71])) as Answer, "not as DER"),
        ((|_| Ok(Vec::new())) as Answer, "0 bytes"),
    ] {
        let client = ClientAuthentication::private_key_jwt("c", Remote::new(answer));
        let (kind, error) = refused(client).await;
        assert_eq!(kind, TokenErrorKind::Credential);
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn the_secret_is_read_before_the_assertion_is_signed() {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let secret = Credential::from_fn(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, BoxError>(format!("{number:064}")) }
    });
    let recorder = Recorder::good();
    let endpoint = recorder.endpoint(ClientAuthentication::client_secret_jwt("c", secret, HS256));
    for number in 0..2 {
        let request = TokenRequest::token_exchange(
            Credential::from_fn(|| async { Ok::<_, BoxError>("subject") }),
            "t",
        );
        endpoint.clone().oneshot(request).await.unwrap();
        let sent = recorder.take_one();
        assert_eq!(parameter(&sent, "subject_token"), "subject");
        let key = DecodingKey::from_secret(format!("{number:064}").as_bytes());
        verify(&parameter(&sent, "client_assertion"), HS256, &key);
    }
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_signs_a_new_assertion_at_once() {
    const OLD: &str = "the old secret, which is just as long as the new one is";
    let server = AuthorizationServer::builder()
        .assertion_client_with("c", |assertion| {
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            let mut validation = Validation::new(Algorithm::HS256);
            validation.validate_aud = false;
            jsonwebtoken::decode::<Value>(assertion, &key, &validation).is_ok()
        })
        .refuse_replayed_assertions(true)
        .build();
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let secret = Credential::from_fn(move || {
        let secret = [OLD, SECRET][count.fetch_add(1, Ordering::Relaxed).min(1)];
        async move { Ok::<_, BoxError>(secret) }
    });
    let client = ClientAuthentication::client_secret_jwt("c", secret, HS256);
    let endpoint: TokenEndpoint<_> =
        TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    let tokens = TokenCache::new(endpoint).source(TokenRequest::client_credentials());
    tokens.token().await.unwrap();
    assert_eq!(server.token_requests(), 2);
    // Read for the first request, after the refusal, and for the second request.
    assert_eq!(reads.load(Ordering::Relaxed), 3);
}

#[test]
fn clients_are_equal_if_their_keys_and_settings_are() {
    let client = |key| ClientAuthentication::private_key_jwt("c", key);
    let sec1 = SigningKey::from_pem(fixture!("p256-sec1.pem"), ES256).unwrap();
    let hash = |client: &ClientAuthentication| {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one(client)
    };
    let rsa = |algorithm| SigningKey::from_pem(fixture!("rsa-pkcs1.pem"), algorithm).unwrap();

    let same = [client(p256()), client(sec1)];
    assert_eq!(same[0], same[1]);
    assert_eq!(hash(&same[0]), hash(&same[1]));
    for different in [
        client(p256().kid("1")),
        client(SigningKey::generate(ES256).unwrap()),
        ClientAuthentication::private_key_jwt("d", p256()),
        client(p256()).assertion(ClientAssertion::new().audience("x")),
        client(p256().certificate(fixture!("certificate.pem")).unwrap()),
        client(
            p256()
                .certificate_chain(fixture!("certificate.pem"))
                .unwrap(),
        ),
        client(p256()).assertion(ClientAssertion::new().iat_before_now(Duration::from_secs(1))),
        client(p256()).assertion(ClientAssertion::new().nbf_before_now(Duration::ZERO)),
        client(p256()).assertion(ClientAssertion::new().follow_server_clock()),
        client(p256()).client_assertion_type("x"),
        client(p256()).without_client_id(),
        ClientAuthentication::client_secret_jwt("c", SECRET, HS256),
    ] {
        assert_ne!(same[0], different);
    }
    assert_ne!(client(rsa(RS256)), client(rsa(PS256)));

    // A signer without a public key.
    let remote = || ClientAuthentication::private_key_jwt("c", Remote::new(Ok));
    let one = remote();
    assert_eq!(one, one.clone());
    assert_eq!(hash(&one), hash(&one.clone()));
    assert_ne!(one, remote());

    let secret = |text: &str, algorithm| {
        ClientAuthentication::client_secret_jwt("c", text.to_owned(), algorithm)
    };
    assert_eq!(secret(SECRET, HS256), secret(SECRET, HS256));
    assert_ne!(secret(SECRET, HS256), secret(SECRET, HS384));
    assert_ne!(secret(SECRET, HS256), secret("another", HS256));
}

/// Returns a key and a self-signed certificate for it.
fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> (KeyPair, rcgen::Certificate) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(["client.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let certificate = params.self_signed(&key).unwrap();
    (key, certificate)
}

#[tokio::test]
async fn the_header_contains_the_thumbprint_of_the_certificate() {
    let (key, certificate) = certificate((2020, 1, 1), (2999, 1, 1));
    let (_, issuer) = self::certificate((2020, 1, 1), (2999, 1, 1));
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der()));
    let key = pem("PRIVATE KEY", key.serialized_der());
    let certificate_pem = pem("CERTIFICATE", certificate.der());
    let chain = certificate_pem.clone() + &pem("CERTIFICATE", issuer.der());
    for input in [
        certificate_pem.clone().into_bytes(),
        certificate.der().to_vec(),
        chain.into_bytes(),
        (key.clone() + &certificate_pem).into_bytes(),
    ] {
        let key = SigningKey::from_pem(&key, ES256).unwrap();
        let (header, _) = signed_by(key.certificate(input).unwrap()).await;
        assert_eq!(header["x5t#S256"], thumbprint);
    }
    // A file that contains both.
    SigningKey::from_pem(certificate_pem.clone() + &key, ES256).unwrap();

    // The chain is sent only if it is asked for.
    let key = SigningKey::from_pem(&key, ES256).unwrap();
    let (header, _) = signed_by(key.clone().certificate(&certificate_pem).unwrap()).await;
    assert_eq!(header.get("x5c"), None);
    let base64 = |certificate: &rcgen::Certificate| BASE64_STANDARD.encode(certificate.der());
    for (input, x5c) in [
        (certificate.der().to_vec(), json!([base64(&certificate)])),
        (
            certificate_pem.clone().into_bytes(),
            json!([base64(&certificate)]),
        ),
        (
            format!("{certificate_pem}{}", pem("CERTIFICATE", issuer.der())).into_bytes(),
            json!([base64(&certificate), base64(&issuer)]),
        ),
    ] {
        let key = key.clone().certificate_chain(&input).unwrap();
        let (header, _) = signed_by(key.clone()).await;
        assert_eq!(header["x5t#S256"], thumbprint);
        assert_eq!(header["x5c"], x5c);
        // The last setter wins.
        let (header, _) = signed_by(key.certificate(&input).unwrap()).await;
        assert_eq!(
            (&header["x5t#S256"], header.get("x5c")),
            (&json!(thumbprint), None)
        );
    }
    let cut = format!("{certificate_pem}-----BEGIN CERTIFICATE-----\nMIIB");
    let foreign = pem("CERTIFICATE", issuer.der()) + &certificate_pem;
    let second_is_none = format!("{certificate_pem}{}", pem("CERTIFICATE", b"0"));
    for (chain, why) in [
        (cut, "malformed"),
        (foreign, "another key"),
        (second_is_none, "not an X.509 certificate"),
        (String::new(), "not an X.509 certificate"),
    ] {
        let error = key.clone().certificate_chain(&chain).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }

    // The public keys of RSA and Ed25519 have other formats.
    for (algorithm, pair) in [
        (EdDSA, KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()),
        (
            RS256,
            KeyPair::try_from(der(fixture!("rsa-pkcs8.pem"))).unwrap(),
        ),
    ] {
        let key = SigningKey::from_der(pair.serialized_der(), algorithm).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(&pair).unwrap();
        key.certificate(certificate.der()).unwrap();
    }
}

#[test]
fn an_unsuitable_certificate_is_refused_with_the_reason() {
    let error_for = |from, until| {
        let (key, certificate) = certificate(from, until);
        let key = SigningKey::from_pem(pem("PRIVATE KEY", key.serialized_der()), ES256).unwrap();
        key.certificate(certificate.der()).unwrap_err().to_string()
    };
    let expired = error_for((2020, 1, 1), (2021, 2, 3));
    assert!(expired.contains("expired on Wed, 03 Feb 2021"), "{expired}");
    let early = error_for((2998, 4, 5), (2999, 1, 1));
    assert!(
        early.contains("not valid before Thu, 05 Apr 2998"),
        "{early}"
    );

    let (_, other) = certificate((2020, 1, 1), (2999, 1, 1));
    let long = pem("CERTIFICATE", other.der());
    let broken = long.replacen("MII", "MI", 1);
    for (certificate, named) in [
        (long.as_str(), "another key"),
        (&broken, "certificate"),
        (&long[..100], "certificate"),
        (fixture!("p256-pkcs8.pem"), "no certificate"),
        (fixture!("public.pem"), "no certificate"),
        ("certificate.pem", "not an X.509 certificate"),
        ("", "not an X.509 certificate"),
    ] {
        let error = p256().certificate(certificate).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// Asserts that the error contains `named`, and no long part of the input.
fn check_refused(result: Result<SigningKey, InvalidKey>, input: &str, named: &str) {
    let error = result.expect_err(named);
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(shown.contains(named), "no {named:?} in {shown}");
    for part in input
        .split(['\n', '"', ' ', '-'])
        .filter(|part| part.len() > 15)
    {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn an_unsuitable_pem_is_refused_with_the_reason() {
    let p256 = fixture!("p256-pkcs8.pem");
    let rsa = fixture!("rsa-pkcs8.pem");
    let with_hole = p256.replacen("MI", "M%", 1);
    let flipped = p256.replacen("MI", "MJ", 1);
    let twice = format!("{p256}{p256}");
    let bad_label = p256.replace("PRIVATE", "SECRET");
    let no_dashes = p256.replacen("PRIVATE KEY-----\n", "PRIVATE KEY\n", 1);
    let pss_label = fixture!("rsa-pss-pkcs8.pem").replace("PRIVATE", "RSA-PSS PRIVATE");
    for (pem, algorithm, named) in [
        (
            rsa,
            ES256,
            "the key is an RSA key, but ES256 needs a key on the curve P-256",
        ),
        (rsa, EdDSA, "an RSA key"),
        (fixture!("rsa-pkcs1.pem"), ES384, "an RSA key"),
        (
            p256,
            RS256,
            "the key is a key on the curve P-256, but RS256 needs an RSA key",
        ),
        (
            p256,
            ES384,
            "curve P-256, but ES384 needs a key on the curve P-384",
        ),
        (fixture!("p384-sec1.pem"), ES256, "curve P-384"),
        (fixture!("p521-sec1.pem"), ES256, "curve P-521"),
        (
            fixture!("secp256k1-sec1.pem"),
            ES256,
            "malformed or not supported",
        ),
        (
            fixture!("ed25519-pkcs8.pem"),
            PS256,
            "the key is an Ed25519 key",
        ),
        (
            fixture!("ed448-pkcs8.pem"),
            EdDSA,
            "malformed or not supported",
        ),
        (p256, HS256, "client_secret_jwt"),
        (fixture!("rsa-1024.pem"), RS256, "shorter than 2048 bits"),
        (fixture!("rsa-1024.pem"), PS512, "shorter than 2048 bits"),
        (fixture!("encrypted-pkcs8.pem"), ES256, "is encrypted"),
        (fixture!("encrypted-sec1.pem"), ES256, "is encrypted"),
        (fixture!("openssh.pem"), EdDSA, "OpenSSH"),
        (fixture!("public.pem"), ES256, "the PEM is a public key"),
        (
            fixture!("certificate.pem"),
            ES256,
            "the PEM is a certificate",
        ),
        (fixture!("rsa-pss-pkcs8.pem"), PS256, "id-RSASSA-PSS"),
        (fixture!("rsa-pss-pkcs8.pem"), RS256, "id-RSASSA-PSS"),
        (fixture!("rsa-pss-pkcs8.pem"), ES256, "id-RSASSA-PSS"),
        (&pss_label, PS256, "id-RSASSA-PSS"),
        (&with_hole, ES256, "malformed"),
        (&flipped, ES256, "malformed"),
        (&p256[..80], ES256, "malformed"),
        (&no_dashes, ES256, "malformed"),
        (&twice, ES256, "more than one"),
        (&bad_label, ES256, "contains no private key"),
        ("client-key.pem", ES256, "no PEM"),
        ("", ES256, "no PEM"),
    ] {
        check_refused(SigningKey::from_pem(pem, algorithm), pem, named);
    }
}

#[test]
fn an_unsuitable_der_is_refused_with_the_reason() {
    let mut flipped = der(fixture!("rsa-pkcs1.pem"));
    flipped[600] ^= 1;
    for (der, algorithm, named) in [
        (der(fixture!("certificate.pem")), ES256, "is a certificate"),
        (der(fixture!("public.pem")), ES256, "is a public key"),
        (der(fixture!("encrypted-pkcs8.pem")), ES256, "is encrypted"),
        (fixture!("p256-pkcs8.pem").into(), ES256, "use `from_pem`"),
        (
            der(fixture!("rsa-1024.pem")),
            RS256,
            "shorter than 2048 bits",
        ),
        (der(fixture!("rsa-1024.pem")), ES256, "an RSA key"),
        (flipped, RS256, "do not match each other"),
        (
            der(fixture!("rsa-pkcs1.pem"))[..900].into(),
            RS256,
            "malformed",
        ),
        (Vec::new(), RS256, "malformed"),
    ] {
        check_refused(SigningKey::from_der(der, algorithm), "", named);
    }
}

#[test]
fn an_unsuitable_jwk_is_refused_with_the_reason() {
    let (rsa, ec, ed) = (
        fixture!("rsa.jwk.json"),
        fixture!("p256.jwk.json"),
        fixture!("ed25519.jwk.json"),
    );
    let edit = |jwk: &str, name: &str, value: Option<Value>| {
        let mut jwk: Value = serde_json::from_str(jwk).unwrap();
        let members = jwk.as_object_mut().unwrap();
        match value {
            Some(value) => members.insert(name.into(), value),
            None => members.remove(name),
        };
        jwk.to_string()
    };
    let set = |jwk, name, value: &str| edit(jwk, name, Some(value.into()));
    let without = |jwk, name| edit(jwk, name, None);
    let d_of_another: Value = serde_json::from_str(RFC_EC).unwrap();
    let d_of_another = d_of_another["d"].as_str().unwrap();
    for (jwk, named) in [
        (String::new(), "not JSON"),
        (
            r#"{"kty":"EC","d":"truncated-and-secret"#.into(),
            "line 1, column",
        ),
        ("[]".into(), "not a JSON object"),
        (format!(r#"{{"keys":[{ec}]}}"#), "set of keys"),
        (without(ec, "kty"), "no `kty`"),
        (set(ec, "kty", "DSA"), "`kty`"),
        (
            r#"{"kty":"oct","k":"c2VjcmV0LXNlY3JldA"}"#.into(),
            "client_secret_jwt",
        ),
        (set(ec, "crv", "P-192"), "P-256, P-384 or P-521"),
        (set(ec, "crv", "P-521"), "not 66 bytes"),
        (set(ec, "crv", "P-384"), "not 48 bytes"),
        (set(ed, "crv", "Ed448"), "not Ed25519"),
        (without(ec, "d"), "public key"),
        (without(rsa, "d"), "public key"),
        (without(ed, "d"), "public key"),
        (edit(ec, "d", Some(1.into())), "`d`"),
        (set(ec, "d", "not base64url!"), "base64url"),
        (set(ec, "d", "AAAA"), "not 32 bytes"),
        (set(ec, "d", d_of_another), "do not match each other"),
        (set(ed, "x", d_of_another), "do not match each other"),
        (set(ec, "use", "enc"), "`use`"),
        (set(rsa, "use", ""), "`use`"),
        (edit(ed, "use", Some(json!(["sig"]))), "`use`"),
        (edit(ec, "key_ops", Some(json!(["encrypt"]))), "`key_ops`"),
        (edit(ed, "key_ops", Some(json!(["verify"]))), "`key_ops`"),
        (edit(rsa, "key_ops", Some(json!([]))), "`key_ops`"),
        (set(rsa, "key_ops", "sign"), "`key_ops`"),
        (
            edit(rsa, "key_ops", Some(json!({"sign": true}))),
            "`key_ops`",
        ),
        (set(ec, "alg", "ES384"), "curve P-256, but ES384"),
        (set(ec, "alg", "RS256"), "curve P-256, but RS256"),
        (set(ec, "alg", "ES512"), "curve P-256, but ES512"),
        (set(ec, "alg", "ES256K"), "`alg`"),
        (without(rsa, "alg"), "from_jwk_with"),
        (without(rsa, "p"), "`p`"),
        (without(rsa, "qi"), "`qi`"),
        (set(rsa, "dp", "AAAA"), "zero"),
        (set(rsa, "q", "AQAB"), "do not match each other"),
        (set(rsa, "n", "0w"), "shorter than 2048 bits"),
        (edit(rsa, "oth", Some(json!([]))), "two primes"),
    ] {
        check_refused(SigningKey::from_jwk(&jwk), &jwk, named);
    }
    check_refused(SigningKey::from_jwk_with(ec, EdDSA), ec, "an Ed25519 key");
    check_refused(
        SigningKey::from_jwk_with(ec, HS256),
        ec,
        "client_secret_jwt",
    );

    let short = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQ","e":"AQAB"}"#;
    let error = PublicKey::from_jwk(short).unwrap_err().to_string();
    assert!(error.contains("2048"), "{error}");
    let mut one_bit_less = [0xff; 256];
    one_bit_less[0] = 0x7f;
    let n = BASE64_URL_SAFE_NO_PAD.encode(one_bit_less);
    let one_bit_less = format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#);
    let error = PublicKey::from_jwk(&one_bit_less).unwrap_err().to_string();
    assert!(error.contains("2048"), "{error}");
}

#[test]
fn a_jwk_for_signatures_is_read() {
    for (_, _, jwk) in key_formats() {
        let plain = SigningKey::from_jwk(jwk).unwrap();
        for (name, value) in [
            ("use", json!("sig")),
            ("use", Value::Null),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!(["verify", "sign"])),
            ("key_ops", Value::Null),
        ] {
            let mut jwk: Value = serde_json::from_str(jwk).unwrap();
            jwk[name] = value;
            let key = SigningKey::from_jwk(jwk.to_string()).unwrap();
            assert_eq!(key.public_key(), plain.public_key(), "{jwk}");
        }
    }
}

#[test]
fn a_jwk_after_a_byte_order_mark_is_read() {
    for (_, _, jwk) in key_formats() {
        let marked = format!("\u{feff}\r\n  {jwk}\r\n");
        let key = SigningKey::from_jwk(&marked).unwrap();
        assert_eq!(key.public_key(), PublicKey::from_jwk(jwk).as_ref().ok());
        assert_eq!(
            PublicKey::from_jwk(&marked).ok(),
            PublicKey::from_jwk(jwk).ok()
        );
    }
}

#[test]
fn key_ids_and_client_ids_are_printed_on_one_short_line() {
    let name = format!("x\nERROR\u{202e}\u{3164}{}", "y".repeat(10_000));
    let key = p256().kid(&name);
    for shown in [
        format!("{key:?}"),
        format!(
            "{:?}",
            ClientAuthentication::private_key_jwt(name.clone(), key)
        ),
        format!("{:?}", ClientAuthentication::none(name)),
    ] {
        assert!(shown.is_ascii() && !shown.contains('\n'), "{shown}");
        assert!(shown.contains("x\\nERROR") && shown.len() < 1000, "{shown}");
    }
}

#[test]
fn a_public_jwk_that_is_not_for_signatures_is_refused() {
    for (_, _, jwk) in key_formats() {
        for (name, value, is_for_signatures) in [
            ("use", json!("enc"), false),
            ("key_ops", json!(["encrypt", "wrapKey"]), false),
            ("key_ops", json!(["verify"]), true),
            ("key_ops", json!(["sign"]), true),
        ] {
            let mut jwk: Value = serde_json::from_str(jwk).unwrap();
            jwk[name] = value;
            let read = PublicKey::from_jwk(&jwk.to_string());
            assert_eq!(read.is_ok(), is_for_signatures, "{name}");
            if let Err(error) = read {
                assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            }
        }
    }
}

/// Adds bytes to the content of the outermost sequence or string, and corrects its length.
fn with_more_content(der: &[u8], more: &[u8]) -> Vec<u8> {
    let start = match der[1] {
        length @ 0x80.. => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    let content = [&der[start..], more].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match content.len() {
        0x100.. => vec![0x82, length[0], length[1]],
        0x80.. => vec![0x81, length[1]],
        _ => vec![length[1]],
    };
    [&der[..1], &length, &content].concat()
}

/// Adds bytes to the key inside of PKCS#8.
fn with_more_in_the_key(pkcs8: &[u8], more: &[u8]) -> Vec<u8> {
    let sequence = der_content(pkcs8);
    let (version, rest) = split_element(sequence);
    let (algorithm, rest) = split_element(rest);
    let (key, rest) = split_element(rest);
    let key = with_more_content(key, more);
    let content = [version, algorithm, &key, rest].concat();
    with_more_content(&[0x30, 0], &content)
}

fn split_element(der: &[u8]) -> (&[u8], &[u8]) {
    der.split_at(der.len() - after_element(der).len())
}

fn after_element(der: &[u8]) -> &[u8] {
    let content = der_content(der);
    &content[content_length(der)..]
}

fn der_content(der: &[u8]) -> &[u8] {
    match der[1] {
        length @ 0x80.. => &der[2 + usize::from(length & 0x7f)..],
        _ => &der[2..],
    }
}

fn content_length(der: &[u8]) -> usize {
    match der[1] {
        0x82 => usize::from(der[2]) * 256 + usize::from(der[3]),
        0x81 => usize::from(der[2]),
        length => usize::from(length),
    }
}

#[test]
fn bytes_after_a_key_are_refused() {
    for (algorithms, pems, _) in key_formats() {
        for text in pems {
            let der = der(text);
            let label = text.rsplit_once("-----END ").unwrap().1;
            let label = label.split_once("-----").unwrap().0;
            for more in [&[0_u8][..], &[0x30, 0], &[5, 0], b"\n", b"more", &der] {
                let mut longer = vec![[&der, more].concat()];
                // Something that belongs to no member, inside of the key.
                longer.push(with_more_content(&der, more));
                if label == "PRIVATE KEY" {
                    longer.push(with_more_in_the_key(&der, more));
                }
                for (place, longer) in longer.iter().enumerate() {
                    for &algorithm in algorithms {
                        let named = match place {
                            1 => "",
                            _ => "bytes after the key",
                        };
                        let case = format!("{label} {algorithm} {place} {more:x?}");
                        let read = SigningKey::from_der(longer, algorithm);
                        let error = read.expect_err(&case).to_string();
                        assert!(error.contains(named), "{case}: {error}");
                        let read = SigningKey::from_pem(pem(label, longer), algorithm);
                        let error = read.expect_err(&case).to_string();
                        assert!(error.contains(named), "{case}: {error}");
                    }
                }
            }
        }
    }
}

/// What happens to a PEM on its way through editors, YAML, shells and environment variables.
fn reshaped(pem: &str) -> Vec<String> {
    let lines: Vec<_> = pem.lines().collect();
    let unwrapped = |between: &str| {
        let (first, body, last) = (lines[0], &lines[1..lines.len() - 1], lines[lines.len() - 1]);
        format!("{first}{between}{}{between}{last}", body.concat())
    };
    vec![
        format!("\u{feff}{pem}"),
        format!("\u{feff}\r\n{}", lines.join("\r\n")),
        lines.join("\r"),
        format!("    {}", lines.join("\n    ")),
        format!("\t{}\t", lines.join(" \t\r\n\t")),
        lines.join("\n\n"),
        lines.join("\\n"),
        format!("{}\\n", lines.join("\\n")),
        format!("{}\n", lines.join("\\n")),
        lines.join("\\r\\n"),
        lines.join("\\\\n"),
        format!("\"{}\\n\"", lines.join("\\n")),
        format!("'{pem}'"),
        lines.join(" "),
        lines.concat(),
        unwrapped("\n"),
        unwrapped(" "),
        unwrapped(""),
        format!("A comment: {pem} and what follows"),
        format!("Bag Attributes\n    localKeyID: 01\n{pem}"),
        format!("{pem}\n\u{feff}{}", fixture!("certificate.pem")),
        format!("{}{pem}", fixture!("certificate.pem").replace('\n', " ")),
    ]
}

#[test]
fn a_pem_is_read_whatever_became_of_its_lines() {
    for (algorithms, pems, jwk) in key_formats() {
        let public_key = PublicKey::from_jwk(jwk).unwrap();
        for pem in pems {
            for text in reshaped(pem) {
                let key = SigningKey::from_pem(&text, algorithms[0]);
                let key = key.unwrap_or_else(|error| panic!("{error}: {text:?}"));
                assert_eq!(key.public_key(), Some(&public_key), "{text:?}");
            }
        }
    }
}

#[test]
fn a_certificate_is_read_whatever_became_of_its_lines() {
    let (key, certificate) = certificate((2020, 1, 1), (2999, 1, 1));
    let key = SigningKey::from_pem(pem("PRIVATE KEY", key.serialized_der()), ES256).unwrap();
    let expected = key.clone().certificate(certificate.der()).unwrap();
    for text in reshaped(&pem("CERTIFICATE", certificate.der())) {
        if text.starts_with("-----BEGIN CERTIFICATE----- MII") && text.matches("BEGIN").count() > 1
        {
            continue; // Another certificate stands first.
        }
        let read = key.clone().certificate(&text);
        let read = read.unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert_eq!(
            read.certificate_thumbprint(),
            expected.certificate_thumbprint()
        );
    }
}

#[test]
fn a_text_that_is_no_pem_is_refused_with_the_reason() {
    let utf_16: Vec<u8> = std::iter::once(0xfeff_u16)
        .chain(fixture!("p256-pkcs8.pem").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let error = SigningKey::from_pem(utf_16, ES256).unwrap_err().to_string();
    assert!(error.contains("UTF-16"), "{error}");
    for text in [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\-----END PRIVATE KEY-----",
        "-----BEGIN ------BEGIN -----",
        "-----BEGIN",
    ] {
        let error = SigningKey::from_pem(text, ES256).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Row 19 of the project's list of bugs in other clients.
#[tokio::test]
async fn no_part_of_a_key_is_printed_or_logged() {
    let (log, _guard) = Log::record();

    let mut shown = String::new();
    let mut secrets = vec![SECRET.to_owned()];
    let mut clients = vec![ClientAuthentication::client_secret_jwt("c", SECRET, HS512)];
    for (algorithms, pems, jwk) in key_formats() {
        let jwk_value: Value = serde_json::from_str(jwk).unwrap();
        for name in ["d", "p", "q", "dp", "dq", "qi"] {
            let Some(text) = jwk_value[name].as_str() else {
                continue;
            };
            secrets.push(text.to_owned());
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
            // Bytes are printed as a list of numbers.
            let bytes = format!("{:?}", &bytes[..8]);
            secrets.push(bytes.trim_matches(['[', ']']).to_owned());
        }
        for pem in pems {
            let lines = pem.lines().filter(|line| !line.starts_with('-'));
            secrets.extend(lines.filter(|line| line.len() > 15).map(str::to_owned));
            let key = SigningKey::from_pem(pem, algorithms[0]).unwrap();
            shown += &format!("{key:?} {key:#?} {:?}", key.public_key());
            clients.push(ClientAuthentication::private_key_jwt("c", key));
        }
    }
    for client in clients {
        for status in [200, 401] {
            let recorder = Recorder::new(move |_| answer(status, GOOD));
            let assertion = ClientAssertion::new().claim("about", "a person");
            shown += &format!("{assertion:?}");
            let endpoint = recorder.endpoint(client.clone().assertion(assertion));
            shown += &format!("{client:?} {client:#?} {endpoint:?}");
            let request = TokenRequest::client_credentials().client_authentication(client.clone());
            shown += &format!("{request:?} {request:#?}");
            let mut endpoint = endpoint;
            let future = endpoint.ready().await.unwrap().call(request);
            shown += &format!("{future:?}");
            let result = future.await;
            shown += &format!("{result:?} {result:#?}");
            let assertion = parameter(&recorder.take_one(), "client_assertion");
            secrets.push(assertion);
        }
    }
    shown += &log.text();
    assert!(shown.contains("private_key_jwt"), "{shown}");
    assert!(!shown.contains("a person"));
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} is in {shown}");
    }
}

fn any_algorithm() -> impl Strategy<Value = SigningAlgorithm> {
    prop::sample::select(vec![
        RS256, PS384, ES256, ES384, ES512, EdDSA, MlDsa44, MlDsa87, HS256,
    ])
}

/// Generates the text of a key with some bytes replaced, inserted, removed or cut off.
fn mutated(texts: Vec<&'static str>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_usize);
    (
        prop::sample::select(texts),
        prop::collection::vec(change, 0..6),
    )
        .prop_map(|(text, changes)| {
            let mut bytes = text.as_bytes().to_vec();
            for (index, byte, kind) in changes {
                if bytes.is_empty() {
                    break;
                }
                let index = index.index(bytes.len());
                match kind {
                    0 => bytes[index] = byte,
                    1 => bytes.insert(index, byte),
                    2 => drop(bytes.remove(index)),
                    _ => bytes.truncate(index),
                }
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn parsing_a_key_from_any_text_does_not_panic(
        text in prop_oneof![
            any::<Vec<u8>>(),
            mutated(vec![
                fixture!("p256-sec1.pem"), fixture!("p384-pkcs8.pem"), fixture!("ed25519-pkcs8.pem"),
                fixture!("rsa-pkcs1.pem"), fixture!("encrypted-pkcs8.pem"), fixture!("certificate.pem"),
                fixture!("p256.jwk.json"), fixture!("ed25519.jwk.json"), fixture!("rsa.jwk.json"),
                fixture!("p521-pkcs8.pem"), fixture!("p521.jwk.json"), fixture!("ml-dsa-44-pkcs8.pem"),
                fixture!("ml-dsa-44.jwk.json"),
            ]),
        ],
        algorithm in any_algorithm(),
    ) {
        let _ = SigningKey::from_pem(&text, algorithm);
        let _ = SigningKey::from_der(&text, algorithm);
        let _ = p256().certificate(&text);
        if let Ok(text) = std::str::from_utf8(&text) {
            let _ = SigningKey::from_jwk(text);
            let _ = SigningKey::from_jwk_with(text, algorithm);
            let _ = PublicKey::from_jwk(text);
        }
    }

    #[test]
    fn parsing_a_key_from_any_der_does_not_panic(
        number in 0..8_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        algorithm in any_algorithm(),
    ) {
        let pem = [
            fixture!("p256-sec1.pem"), fixture!("p384-pkcs8.pem"), fixture!("ed25519-pkcs8.pem"),
            fixture!("rsa-pkcs1.pem"), fixture!("encrypted-pkcs8.pem"), fixture!("certificate.pem"),
            fixture!("p521-sec1.pem"), fixture!("ml-dsa-44-pkcs8.pem"),
        ][number];
        let mut der = der(pem);
        for (index, byte) in changes {
            let index = index.index(der.len());
            der[index] = byte;
        }
        der.truncate(length.index(der.len()) + der.len() / 2);
        let _ = SigningKey::from_der(&der, algorithm);
        let _ = p256().certificate(&der);
    }
}
