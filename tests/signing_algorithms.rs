//! ES512, Ed25519 and ML-DSA: keys in every format, and signatures that a third-party library verifies.
//!
//! The ML-DSA keys in `fixtures/keys` are the examples of RFC 9964, whose seeds are zeros. OpenSSL generated the key on P-521.

mod support;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use ml_dsa::{
    EncodedVerifyingKey, MlDsa44 as Parameters44, MlDsa65 as Parameters65, MlDsa87 as Parameters87,
    MlDsaParams, Seed, signature::Verifier,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use tower_oauth2_client::{
    ClientAuthentication, DpopKey, TokenEndpoint, TokenRequest,
    jwt::{
        PublicKey, SignFuture, Signer,
        SigningAlgorithm::{self, ES512, Ed25519, EdDSA, MlDsa44, MlDsa65, MlDsa87},
        SigningKey,
    },
};

use self::support::{Recorder, URI, answer, form, sent_by};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/keys/", $name))
    };
}

const ML_DSA: [(SigningAlgorithm, &str); 3] = [
    (MlDsa44, fixture!("ml-dsa-44.jwk.json")),
    (MlDsa65, fixture!("ml-dsa-65.jwk.json")),
    (MlDsa87, fixture!("ml-dsa-87.jwk.json")),
];

fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn member(jwk: &Value, name: &str) -> Vec<u8> {
    decode(jwk[name].as_str().unwrap())
}

/// Verifies a JWT with the public JWK, by another library than the one that signed it. Returns its header and claims.
fn verify(jwt: &str, jwk: &Value) -> (Value, Value) {
    let [header, claims, signature] = jwt.split('.').collect::<Vec<_>>()[..] else {
        panic!("not three parts: {jwt}");
    };
    let (message, _) = jwt.rsplit_once('.').unwrap();
    let (message, signature) = (message.as_bytes(), decode(signature));
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    match header["alg"].as_str().unwrap() {
        "ES512" => {
            let point = [vec![4], member(jwk, "x"), member(jwk, "y")].concat();
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
            let signature = p521::ecdsa::Signature::from_slice(&signature).unwrap();
            key.verify(message, &signature).unwrap();
        }
        "EdDSA" | "Ed25519" => {
            let key = jsonwebtoken::DecodingKey::from_ed_components(jwk["x"].as_str().unwrap());
            let signature = BASE64_URL_SAFE_NO_PAD.encode(&signature);
            let algorithm = jsonwebtoken::Algorithm::EdDSA;
            assert!(
                jsonwebtoken::crypto::verify(&signature, message, &key.unwrap(), algorithm)
                    .unwrap()
            );
        }
        "ML-DSA-44" => verify_ml_dsa::<Parameters44>(message, &signature, jwk),
        "ML-DSA-65" => verify_ml_dsa::<Parameters65>(message, &signature, jwk),
        "ML-DSA-87" => verify_ml_dsa::<Parameters87>(message, &signature, jwk),
        other => panic!("{other}"),
    }
    (header, serde_json::from_slice(&decode(claims)).unwrap())
}

fn verify_ml_dsa<P: MlDsaParams>(message: &[u8], signature: &[u8], jwk: &Value) {
    let encoded = EncodedVerifyingKey::<P>::try_from(&*member(jwk, "pub")).unwrap();
    let key = ml_dsa::VerifyingKey::<P>::decode(&encoded);
    let signature = ml_dsa::Signature::<P>::try_from(signature).unwrap();
    key.verify(message, &signature).unwrap();
}

fn parameter(sent: &Request<Bytes>, name: &str) -> String {
    let mut pairs = form(sent.body()).into_iter();
    pairs.find(|(n, _)| n == name).unwrap().1
}

/// Signs a client assertion and a DPoP proof with the key, and verifies both.
async fn sign_and_verify(key: &SigningKey) {
    let algorithm = key.algorithm();
    let client = ClientAuthentication::private_key_jwt("c", key.clone());
    let sent = sent_by(client).await;
    let jwk = value(key.public_key().unwrap().as_json());
    let (header, claims) = verify(&parameter(&sent, "client_assertion"), &jwk);
    assert_eq!(header["alg"], algorithm.as_str());
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("c"), &json!(URI)));

    let dpop = DpopKey::new(key.clone()).unwrap();
    let proof = dpop
        .proof(&Method::POST, &Uri::from_static(URI), None)
        .await
        .unwrap();
    let (header, claims) = verify(proof.to_str().unwrap(), &jwk);
    assert_eq!(
        (&header["alg"], &header["jwk"]),
        (&json!(algorithm.as_str()), &jwk)
    );
    assert_eq!(claims["htu"], URI);
    // The thumbprint is the digest of the required members in their order (RFC 7638 §3).
    let digest = Sha256::digest(key.public_key().unwrap().as_json());
    assert_eq!(dpop.thumbprint(), BASE64_URL_SAFE_NO_PAD.encode(digest));
}

/// Writes an element of DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match content.len() {
        0x100.. => vec![0x82, length[0], length[1]],
        0x80.. => vec![0x81, length[1]],
        _ => vec![length[1]],
    };
    [&[tag], &*length, content].concat()
}

/// Writes an ML-DSA key as PKCS#8 (RFC 9881 §6).
fn pkcs8(algorithm: SigningAlgorithm, private_key: &[u8]) -> Vec<u8> {
    let last = match algorithm {
        MlDsa44 => 17,
        MlDsa65 => 18,
        _ => 19,
    };
    let id = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, last];
    let content = [&[2, 1, 0], &*der(0x30, &der(6, &id)), &*der(4, private_key)].concat();
    der(0x30, &content)
}

fn pem(der: &[u8]) -> String {
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

#[tokio::test]
async fn a_key_on_p521_signs_from_every_format() {
    let jwk = fixture!("p521.jwk.json");
    let public = PublicKey::from_jwk(jwk).unwrap();
    let der = |text: &str| {
        let body = text.lines().filter(|line| !line.starts_with('-'));
        base64::prelude::BASE64_STANDARD
            .decode(body.collect::<String>())
            .unwrap()
    };
    let mut keys = vec![
        SigningKey::from_jwk(jwk).unwrap(),
        SigningKey::from_jwk_with(jwk, ES512).unwrap(),
    ];
    for text in [fixture!("p521-sec1.pem"), fixture!("p521-pkcs8.pem")] {
        keys.push(SigningKey::from_pem(text, ES512).unwrap());
        keys.push(SigningKey::from_der(der(text), ES512).unwrap());
    }
    assert_eq!(Signer::key_id(&keys[0]), Some("p521-1"));
    for key in keys {
        assert_eq!(key.algorithm(), ES512);
        assert_eq!(key.public_key(), Some(&public));
        sign_and_verify(&key).await;
    }
    // Coordinates of a key on this curve often begin with zeros, which must not be dropped.
    for _ in 0..16 {
        let key = SigningKey::generate(ES512).unwrap();
        let jwk = key.public_jwk();
        assert_eq!(jwk["alg"], "ES512");
        assert_eq!([member(&jwk, "x").len(), member(&jwk, "y").len()], [66, 66]);
        sign_and_verify(&key).await;
    }
}

#[tokio::test]
async fn ed25519_is_sent_under_the_name_that_was_chosen() {
    let named = |alg: Option<&str>| {
        let mut jwk = value(fixture!("ed25519.jwk.json"));
        jwk.as_object_mut().unwrap().remove("alg");
        if let Some(alg) = alg {
            jwk["alg"] = alg.into();
        }
        jwk.to_string()
    };
    for (alg, expected) in [
        (None, EdDSA),
        (Some("EdDSA"), EdDSA),
        (Some("Ed25519"), Ed25519),
    ] {
        let key = SigningKey::from_jwk(named(alg)).unwrap();
        assert_eq!(key.algorithm(), expected);
        assert_eq!(key.public_jwk()["alg"], expected.as_str());
        sign_and_verify(&key).await;
        for chosen in [EdDSA, Ed25519] {
            let key = SigningKey::from_jwk_with(named(alg), chosen).unwrap();
            assert_eq!(key.algorithm(), chosen);
            sign_and_verify(&key).await;
        }
    }
    for algorithm in [EdDSA, Ed25519] {
        let key = SigningKey::from_pem(fixture!("ed25519-pkcs8.pem"), algorithm).unwrap();
        sign_and_verify(&key).await;
        sign_and_verify(&SigningKey::generate(algorithm).unwrap()).await;
    }
}

#[tokio::test]
async fn an_ml_dsa_key_signs_from_every_format() {
    for (algorithm, jwk) in ML_DSA {
        let public = PublicKey::from_jwk(jwk).unwrap();
        // The `kid` of the examples of RFC 9964 is the thumbprint.
        assert_eq!(public.thumbprint(), value(jwk)["kid"]);
        let seed = [0; 32];
        let expanded = expanded(algorithm, seed);
        let mut keys = vec![
            SigningKey::from_jwk(jwk).unwrap(),
            SigningKey::from_jwk_with(jwk, algorithm).unwrap(),
        ];
        for private in [
            der(0x80, &seed),
            der(4, &expanded),
            der(0x30, &[der(4, &seed), der(4, &expanded)].concat()),
        ] {
            let pkcs8 = pkcs8(algorithm, &private);
            keys.push(SigningKey::from_pem(pem(&pkcs8), algorithm).unwrap());
            keys.push(SigningKey::from_der(pkcs8, algorithm).unwrap());
        }
        for key in keys {
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.public_key(), Some(&public));
            sign_and_verify(&key).await;
        }
        let key = SigningKey::generate(algorithm).unwrap();
        assert_ne!(key.public_key(), Some(&public));
        sign_and_verify(&key).await;
    }
    let pem = fixture!("ml-dsa-44-pkcs8.pem");
    let key = SigningKey::from_pem(pem.replace('\n', "\\n"), MlDsa44).unwrap();
    sign_and_verify(&key).await;
}

fn expanded(algorithm: SigningAlgorithm, seed: [u8; 32]) -> Vec<u8> {
    #[allow(deprecated, reason = "keys of this form exist")]
    fn of<P: MlDsaParams>(seed: [u8; 32]) -> Vec<u8> {
        ml_dsa::ExpandedSigningKey::<P>::from_seed(&Seed::from(seed))
            .to_expanded()
            .to_vec()
    }
    match algorithm {
        MlDsa44 => of::<Parameters44>(seed),
        MlDsa65 => of::<Parameters65>(seed),
        _ => of::<Parameters87>(seed),
    }
}

#[tokio::test]
async fn a_public_jwk_of_ml_dsa_has_no_private_member() {
    for (algorithm, jwk) in ML_DSA {
        let key = SigningKey::from_jwk(jwk).unwrap();
        let public = key.public_jwk();
        let names: Vec<_> = public.as_object().unwrap().keys().collect();
        assert_eq!(names, ["alg", "kid", "kty", "pub", "use"]);
        assert_eq!(public["alg"], algorithm.as_str());
        let error = SigningKey::from_jwk(public.to_string()).unwrap_err();
        assert!(error.to_string().contains("no `priv`"), "{error}");
        assert_eq!(
            PublicKey::from_jwk(&public.to_string()).unwrap(),
            *key.public_key().unwrap()
        );
    }
}

#[test]
fn unsuitable_keys_are_refused_with_the_reason() {
    let edit = |jwk: &str, name: &str, new: Value| {
        let mut jwk = value(jwk);
        match new {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            new => jwk[name] = new,
        }
        jwk.to_string()
    };
    let (p521, ml_dsa) = (fixture!("p521.jwk.json"), fixture!("ml-dsa-44.jwk.json"));
    let other_seed = BASE64_URL_SAFE_NO_PAD.encode([1; 32]);
    for (jwk, why) in [
        (edit(p521, "d", Value::Null), "no `d`"),
        (edit(p521, "x", "AAAA".into()), "not 66 bytes"),
        (edit(p521, "y", value(p521)["x"].clone()), "do not match"),
        (edit(p521, "alg", "ES256".into()), "curve P-521, but ES256"),
        (edit(p521, "alg", "ML-DSA-44".into()), "an ML-DSA-44 key"),
        (
            edit(ml_dsa, "alg", Value::Null),
            "`alg` of the JWK is not ML-DSA",
        ),
        (
            edit(ml_dsa, "alg", "ES256".into()),
            "`alg` of the JWK is not ML-DSA",
        ),
        (
            edit(ml_dsa, "alg", "ML-DSA-65".into()),
            "`pub` of the JWK is not 1952 bytes",
        ),
        (
            edit(ml_dsa, "priv", "AAAA".into()),
            "`priv` of the JWK is not 32 bytes",
        ),
        (edit(ml_dsa, "priv", other_seed.into()), "do not match"),
        (edit(ml_dsa, "pub", Value::Null), "no `pub`"),
        (edit(ml_dsa, "use", "enc".into()), "`use`"),
    ] {
        let error = SigningKey::from_jwk(&jwk).unwrap_err().to_string();
        assert!(error.contains(why), "no {why:?} in {error:?}");
    }

    let ml_dsa_65 = pkcs8(MlDsa65, &der(0x80, &[7; 32]));
    let mixed = der(
        0x30,
        &[der(4, &[1; 32]), der(4, &expanded(MlDsa44, [2; 32]))].concat(),
    );
    for (der, algorithm, why) in [
        (
            ml_dsa_65.clone(),
            MlDsa44,
            "the key is an ML-DSA-65 key, but ML-DSA-44 needs an ML-DSA-44 key",
        ),
        (
            ml_dsa_65.clone(),
            ES512,
            "the key is an ML-DSA-65 key, but ES512 needs a key on the curve P-521",
        ),
        ([&*ml_dsa_65, b"x"].concat(), MlDsa65, "bytes after the key"),
        (pkcs8(MlDsa44, &der(0x80, &[7; 31])), MlDsa44, "malformed"),
        (pkcs8(MlDsa44, &mixed), MlDsa44, "malformed"),
    ] {
        let error = SigningKey::from_der(der, algorithm)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "no {why:?} in {error:?}");
    }
    let error = SigningKey::from_pem(fixture!("p521-sec1.pem"), MlDsa87).unwrap_err();
    assert!(
        error.to_string().contains("curve P-521, but ML-DSA-87"),
        "{error}"
    );
    let error = SigningKey::from_jwk_with(ml_dsa, EdDSA).unwrap_err();
    assert!(error.to_string().contains("an Ed25519 key"), "{error}");
}

/// A key elsewhere, such as in a KMS, that returns an ECDSA signature as DER or ML-DSA cut off.
struct Remote(SigningKey, fn(Vec<u8>) -> Vec<u8>);

impl Signer for Remote {
    fn algorithm(&self) -> SigningAlgorithm {
        self.0.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.0.public_key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async move { Ok((self.1)(self.0.sign(message).await?)) })
    }
}

#[tokio::test]
async fn a_remote_signer_signs_with_every_algorithm() {
    for algorithm in [ES512, Ed25519, MlDsa44, MlDsa65, MlDsa87] {
        let key = SigningKey::generate(algorithm).unwrap();
        let jwk = value(key.public_key().unwrap().as_json());
        let client = ClientAuthentication::private_key_jwt("c", Remote(key.clone(), |it| it));
        let (header, _) = verify(&parameter(&sent_by(client).await, "client_assertion"), &jwk);
        assert_eq!(header["alg"], algorithm.as_str());

        let cut = Remote(key, |mut signature| {
            signature.pop();
            signature
        });
        let recorder = Recorder::good();
        let endpoint = recorder.endpoint(ClientAuthentication::private_key_jwt("c", cut));
        let error = endpoint
            .oneshot(TokenRequest::client_credentials())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(algorithm.as_str()), "{error}");
        assert_eq!(recorder.calls(), 0);
    }
}

#[tokio::test]
async fn no_part_of_a_key_is_printed() {
    let secret = BASE64_URL_SAFE_NO_PAD.encode([0; 32]);
    for (_, jwk) in ML_DSA {
        let key = SigningKey::from_jwk(jwk).unwrap();
        let shown = format!("{key:?} {key:#?} {:?}", DpopKey::new(key.clone()));
        assert!(!shown.contains(&secret) && shown.len() < 2000, "{shown}");
    }
}

#[tokio::test]
async fn the_metadata_choose_between_the_two_names_of_ed25519() {
    for (listed, chosen, expected) in [
        (json!(null), EdDSA, Ok("EdDSA")),
        (json!(null), Ed25519, Ok("Ed25519")),
        (json!(["ES256", "Ed25519"]), EdDSA, Ok("Ed25519")),
        (json!(["ES256", "Ed25519"]), Ed25519, Ok("Ed25519")),
        (json!(["EdDSA"]), EdDSA, Ok("EdDSA")),
        (json!(["EdDSA"]), Ed25519, Ok("EdDSA")),
        (json!(["Ed25519", "EdDSA"]), EdDSA, Ok("EdDSA")),
        (json!(["EdDSA", "Ed25519"]), Ed25519, Ok("Ed25519")),
        (
            json!(["ES256", "ed25519"]),
            EdDSA,
            Err("`EdDSA`, `Ed25519`; its metadata lists `ES256`"),
        ),
        (json!([]), Ed25519, Err("lists none")),
    ] {
        let lists = listed.clone();
        let recorder = Recorder::new(move |number| match number {
            0 => {
                let mut document = json!({"issuer": "https://as.example", "token_endpoint": URI});
                if lists.is_array() {
                    document["token_endpoint_auth_signing_alg_values_supported"] = lists.clone();
                    document["dpop_signing_alg_values_supported"] = lists.clone();
                }
                answer(200, document.to_string())
            }
            _ => answer(200, r#"{"access_token":"T","token_type":"DPoP"}"#),
        });
        let key = SigningKey::generate(chosen).unwrap();
        let jwk = value(key.public_key().unwrap().as_json());
        let client = ClientAuthentication::private_key_jwt("c", key.clone());
        let endpoint = TokenEndpoint::discover(recorder.clone(), "https://as.example", client);
        let endpoint = endpoint.dpop(DpopKey::new(key).unwrap());
        let result = endpoint.oneshot(TokenRequest::client_credentials()).await;
        match expected {
            Ok(alg) => {
                result.unwrap();
                let sent = recorder.take().pop().unwrap();
                let (header, _) = verify(&parameter(&sent, "client_assertion"), &jwk);
                assert_eq!(header["alg"], alg, "{listed} {chosen}");
                let (header, _) = verify(proof(sent.headers()), &jwk);
                assert_eq!(header["alg"], alg, "{listed} {chosen}");
            }
            Err(why) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(why), "{error}");
            }
        }
    }
}

fn proof(headers: &HeaderMap) -> &str {
    headers["dpop"].to_str().unwrap()
}
