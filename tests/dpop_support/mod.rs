//! Checks DPoP proofs as a strict server does (RFC 9449 §4.3), with a third-party library, and simulates remote signers.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses only some of it"
)]

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Response, header::AUTHORIZATION};
use http_body_util::Full;
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tower_oauth2_client::{
    DpopKey,
    jwt::{PublicKey, SignFuture, Signer, SigningAlgorithm, SigningKey},
};

/// The only claims that a proof may contain.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: Option<String>,
    nonce: Option<String>,
}

/// The contents of an accepted proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub thumbprint: String,
    pub jti: String,
    pub htu: String,
    pub ath: Option<String>,
    pub nonce: Option<String>,
}

/// Checks proofs as a server does, and accepts each proof only once.
#[derive(Clone)]
pub struct Judge {
    started: u64,
    seen: Arc<Mutex<HashSet<String>>>,
}

impl Judge {
    pub fn new() -> Self {
        Self {
            started: unix_now(),
            seen: Arc::default(),
        }
    }

    /// Returns the proof of a request after checking everything except its `htu`, `ath` and `nonce`.
    #[track_caller]
    pub fn read(&self, headers: &HeaderMap, method: &str) -> Proof {
        let mut values = headers.get_all("dpop").iter();
        let value = values.next().expect("no proof");
        assert!(values.next().is_none(), "two proofs");
        assert!(value.is_sensitive(), "a proof must be marked as sensitive");
        let proof = value.to_str().unwrap();

        let json = BASE64_URL_SAFE_NO_PAD
            .decode(proof.split('.').next().unwrap())
            .unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let names: BTreeSet<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["alg", "jwk", "typ"].map(String::from).into());
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(
                json["jwk"].get(private).is_none(),
                "the proof contains a private key"
            );
        }

        let header = jsonwebtoken::decode_header(proof).unwrap();
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        let jwk = header.jwk.expect("no public key");
        let mut validation = Validation::new(header.alg);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let claims = jsonwebtoken::decode::<Claims>(proof, &key, &validation);
        let claims = claims.unwrap().claims;
        assert_eq!(claims.htm, method);
        assert!((self.started..=unix_now()).contains(&claims.iat));
        assert!(claims.jti.len() >= 16, "a `jti` needs at least 96 bits");
        assert!(
            self.seen.lock().unwrap().insert(claims.jti.clone()),
            "a proof was sent twice"
        );
        Proof {
            thumbprint: digest(&json["jwk"].to_string()),
            jti: claims.jti,
            htu: claims.htu,
            ath: claims.ath,
            nonce: claims.nonce,
        }
    }

    /// Checks the proof of a token request and returns its nonce.
    #[track_caller]
    pub fn token_request(&self, headers: &HeaderMap, htu: &str, key: &DpopKey) -> Option<String> {
        let proof = self.read(headers, "POST");
        assert_eq!(proof.htu, htu);
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.ath, None);
        proof.nonce
    }

    /// Checks the proof of a request to an API and returns it with the access token of the request.
    #[track_caller]
    pub fn api_request(
        &self,
        headers: &HeaderMap,
        method: &str,
        htu: &str,
        key: &DpopKey,
    ) -> (String, Proof) {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().expect("no token");
        assert!(values.next().is_none() && value.is_sensitive());
        let token = value.to_str().unwrap().strip_prefix("DPoP ").unwrap();
        let proof = self.read(headers, method);
        assert_eq!(proof.htu, htu);
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(
            proof.ath.as_deref(),
            Some(&*digest(token)),
            "`ath` of another token"
        );
        (token.to_owned(), proof)
    }
}

/// Returns the SHA-256 digest of `text` as base64url.
///
/// This is the `ath` of an access token, and the thumbprint of a JWK that has only the required members, in order (RFC 7638).
pub fn digest(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the rule is for `src/`; a server reads its own clock"
)]
fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Returns a 401 that demands the nonce.
pub fn demand(nonce: &str) -> Response<Full<Bytes>> {
    challenge(r#"DPoP error="use_dpop_nonce""#, Some(nonce))
}

pub fn challenge(challenge: &str, nonce: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(401)
        .header("www-authenticate", challenge);
    if let Some(nonce) = nonce {
        response = response.header("dpop-nonce", nonce);
    }
    response.body(Full::from("refused")).unwrap()
}

/// A remote key: each signature waits for a permit of its [`Control`].
pub struct Remote {
    key: SigningKey,
    pub control: Arc<Control>,
}

pub struct Control {
    /// The number of signatures that were requested.
    pub asked: AtomicUsize,
    pub fails: AtomicBool,
    pub open: Semaphore,
}

impl Remote {
    /// Creates a key that signs `open` messages before it waits.
    pub fn new(open: usize) -> Self {
        Self {
            key: SigningKey::generate(SigningAlgorithm::ES256).unwrap(),
            control: Arc::new(Control {
                asked: AtomicUsize::new(0),
                fails: AtomicBool::new(false),
                open: Semaphore::new(open),
            }),
        }
    }
}

impl Control {
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Signer for Remote {
    fn algorithm(&self) -> SigningAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.key.public_key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        self.control.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            // As over a network, the signature is never ready at once.
            tokio::task::yield_now().await;
            self.control.open.acquire().await?.forget();
            if self.control.fails.load(Ordering::SeqCst) {
                return Err("the HSM is on fire".into());
            }
            self.key.sign(message).await
        })
    }
}
