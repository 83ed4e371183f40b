//! The public JWK of a key, for its registration: its members, and that it is the key that assertions name and are signed with.
#![cfg(feature = "jwt")]

mod support;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, TokenRequest,
    jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
};

use self::support::{Recorder, form};

use SigningAlgorithm::{ES256, ES384, Ed25519, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/keys/", $name))
    };
}

/// Returns the client assertion that a signer makes.
async fn assertion(signer: impl Signer + 'static) -> String {
    let recorder = Recorder::good();
    let client = ClientAuthentication::private_key_jwt("client", signer);
    let endpoint = recorder.endpoint(client);
    let sent = endpoint.oneshot(TokenRequest::client_credentials()).await;
    sent.unwrap();
    let mut pairs = form(recorder.take_one().body()).into_iter();
    pairs
        .find(|(name, _)| name == "client_assertion")
        .unwrap()
        .1
}

fn header(jwt: &str) -> Value {
    let header = jwt.split('.').next().unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

fn names(jwk: &Value) -> Vec<&str> {
    let mut names: Vec<_> = jwk.as_object().unwrap().keys().map(|n| &**n).collect();
    names.sort_unstable();
    names
}

/// Asserts that the JWK is the one for the assertions of this key.
async fn assert_registers(key: &SigningKey, jwk: &Value) {
    let jwt = assertion(key.clone()).await;
    let header = header(&jwt);
    assert_eq!(header["alg"], jwk["alg"]);
    assert_eq!(header.get("kid"), jwk.get("kid"));
    let public = serde_json::from_value(jwk.clone()).unwrap();
    let mut validation = Validation::new(jwk["alg"].as_str().unwrap().parse().unwrap());
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(&public).unwrap();
    jsonwebtoken::decode::<Value>(&jwt, &key, &validation).unwrap();
}

#[tokio::test]
async fn a_public_jwk_has_the_members_for_registration_and_no_private_one() {
    for (algorithm, members) in [
        (RS256, &["alg", "e", "kid", "kty", "n", "use"][..]),
        (RS384, &["alg", "e", "kid", "kty", "n", "use"]),
        (RS512, &["alg", "e", "kid", "kty", "n", "use"]),
        (PS256, &["alg", "e", "kid", "kty", "n", "use"]),
        (PS384, &["alg", "e", "kid", "kty", "n", "use"]),
        (PS512, &["alg", "e", "kid", "kty", "n", "use"]),
        (ES256, &["alg", "crv", "kid", "kty", "use", "x", "y"]),
        (ES384, &["alg", "crv", "kid", "kty", "use", "x", "y"]),
        (EdDSA, &["alg", "crv", "kid", "kty", "use", "x"]),
    ] {
        let key = match algorithm {
            ES256 | ES384 | EdDSA => SigningKey::generate(algorithm),
            _ => SigningKey::from_pem(fixture!("rsa-pkcs8.pem"), algorithm),
        };
        let key = key.unwrap();
        let without_kid: Vec<_> = members.iter().copied().filter(|it| *it != "kid").collect();
        assert_eq!(names(&key.public_jwk()), without_kid);
        assert_registers(&key, &key.public_jwk()).await;

        let key = key.kid("k\"1");
        let jwk = key.public_jwk();
        assert_eq!(names(&jwk), members);
        assert_eq!((&jwk["kid"], &jwk["use"]), (&json!("k\"1"), &json!("sig")));
        assert_registers(&key, &jwk).await;

        let key = key.kid_from_thumbprint();
        let thumbprint = key.public_key().unwrap().thumbprint();
        assert_eq!(key.public_jwk()["kid"], thumbprint);
        assert_registers(&key, &key.public_jwk()).await;
    }
}

#[tokio::test]
async fn the_public_half_of_a_private_jwk_is_returned_unchanged() {
    for jwk in [
        fixture!("ed25519.jwk.json"),
        fixture!("p256.jwk.json"),
        fixture!("p384.jwk.json"),
        fixture!("rsa.jwk.json"),
    ] {
        let private: Value = serde_json::from_str(jwk).unwrap();
        let key = SigningKey::from_jwk(jwk).unwrap();
        let public = key.public_jwk();
        for name in ["kty", "crv", "x", "y", "n", "e", "kid"] {
            assert_eq!(public.get(name), private.get(name), "{name}");
        }
        let text = public.to_string();
        for name in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(public.get(name).is_none(), "{name}");
            if let Some(secret) = private.get(name) {
                assert!(!text.contains(secret.as_str().unwrap()), "{name}");
            }
        }
        assert_registers(&key, &public).await;
        // It is no private key, and the same public key.
        SigningKey::from_jwk(&text).unwrap_err();
        assert_eq!(
            PublicKey::from_jwk(&text).unwrap(),
            *key.public_key().unwrap()
        );
    }
}

/// A key elsewhere, such as in a KMS.
struct Remote(SigningKey, Option<PublicKey>);

impl Signer for Remote {
    fn algorithm(&self) -> SigningAlgorithm {
        self.0.algorithm()
    }

    fn key_id(&self) -> Option<&str> {
        Some("remote")
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.1.as_ref()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        self.0.sign(message)
    }
}

#[test]
fn a_remote_signer_has_a_public_jwk_if_it_knows_its_public_key() {
    let key = SigningKey::generate(ES256).unwrap();
    let public = key.public_key().cloned();
    let remote: Arc<dyn Signer> = Arc::new(Remote(key.clone(), public));
    assert_eq!(
        remote.public_jwk().unwrap(),
        key.clone().kid("remote").public_jwk()
    );
    assert_eq!(Remote(key, None).public_jwk(), None);
}

/// RFC 9864 renames `EdDSA` with this curve to `Ed25519`.
#[tokio::test]
async fn both_names_of_eddsa_are_read_and_sent_as_they_are() {
    let named = |alg: &str| {
        let mut jwk: Value = serde_json::from_str(fixture!("ed25519.jwk.json")).unwrap();
        jwk["alg"] = alg.into();
        SigningKey::from_jwk(jwk.to_string())
    };
    for algorithm in [EdDSA, Ed25519] {
        let key = named(algorithm.as_str()).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.public_jwk()["alg"], algorithm.as_str());
    }
    // The library that verifies does not know the new name.
    let key = named("EdDSA").unwrap();
    assert_registers(&key, &key.public_jwk()).await;
    for (alg, why) in [
        ("Ed448", "`Ed448` is not supported"),
        ("ed25519", "Ed25519"),
        ("ES256", "ES256"),
    ] {
        let error = named(alg).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // The curve has to fit.
    let mut jwk: Value = serde_json::from_str(fixture!("p256.jwk.json")).unwrap();
    jwk["alg"] = "Ed25519".into();
    SigningKey::from_jwk(jwk.to_string()).unwrap_err();
}
