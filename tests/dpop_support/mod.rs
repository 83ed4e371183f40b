//! Judges DPoP proofs as a strict server does, by a library that is not ours (RFC 9449 §4.3), and signers that are not local.
#![allow(dead_code, unreachable_pub, reason = "each suite takes what it needs")]

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

/// What a proof may say, and nothing else.
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

/// What a server learns of a proof that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub thumbprint: String,
    pub jti: String,
    pub htu: String,
    pub ath: Option<String>,
    pub nonce: Option<String>,
}

/// A server that takes each proof once.
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

    /// The proof of a request, which must be right in every respect but its `htu`, `ath` and `nonce`.
    #[track_caller]
    pub fn read(&self, headers: &HeaderMap, method: &str) -> Proof {
        let mut values = headers.get_all("dpop").iter();
        let value = values.next().expect("a proof");
        assert!(values.next().is_none(), "two proofs");
        assert!(value.is_sensitive(), "a proof is for no log");
        let proof = value.to_str().unwrap();

        let json = BASE64_URL_SAFE_NO_PAD
            .decode(proof.split('.').next().unwrap())
            .unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let names: BTreeSet<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["alg", "jwk", "typ"].map(String::from).into());
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(json["jwk"].get(private).is_none(), "a private key");
        }

        let header = jsonwebtoken::decode_header(proof).unwrap();
        assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
        let jwk = header.jwk.expect("a public key");
        let mut validation = Validation::new(header.alg);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let claims = jsonwebtoken::decode::<Claims>(proof, &key, &validation);
        let claims = claims.unwrap().claims;
        assert_eq!(claims.htm, method);
        assert!((self.started..=unix_now()).contains(&claims.iat));
        assert!(claims.jti.len() >= 16, "96 bits at least");
        assert!(
            self.seen.lock().unwrap().insert(claims.jti.clone()),
            "a proof is sent once"
        );
        Proof {
            thumbprint: digest(&json["jwk"].to_string()),
            jti: claims.jti,
            htu: claims.htu,
            ath: claims.ath,
            nonce: claims.nonce,
        }
    }

    /// The proof of a token request, and its nonce.
    #[track_caller]
    pub fn token_request(&self, headers: &HeaderMap, htu: &str, key: &DpopKey) -> Option<String> {
        let proof = self.read(headers, "POST");
        assert_eq!(proof.htu, htu);
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.ath, None);
        proof.nonce
    }

    /// The proof of a request to an API, and the token beside it.
    #[track_caller]
    pub fn api_request(
        &self,
        headers: &HeaderMap,
        method: &str,
        htu: &str,
        key: &DpopKey,
    ) -> (String, Proof) {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().expect("a token");
        assert!(values.next().is_none() && value.is_sensitive());
        let token = value.to_str().unwrap().strip_prefix("DPoP ").unwrap();
        let proof = self.read(headers, method);
        assert_eq!(proof.htu, htu);
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.ath.as_deref(), Some(&*digest(token)), "of this token");
        (token.to_owned(), proof)
    }
}

/// `ath` of a token; of a JWK that has the required members only, and in order, its thumbprint (RFC 7638).
pub fn digest(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the ban is for `src/`; a server reads its own clock"
)]
fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// 401 with a challenge and a nonce.
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

/// A key that is elsewhere: each signature waits until it is let through.
pub struct Remote {
    key: SigningKey,
    pub control: Arc<Control>,
}

pub struct Control {
    /// How often a signature was asked for.
    pub asked: AtomicUsize,
    pub fails: AtomicBool,
    pub open: Semaphore,
}

impl Remote {
    /// Lets `open` signatures through.
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
            // As over a network, it is never there at once.
            tokio::task::yield_now().await;
            self.control.open.acquire().await?.forget();
            if self.control.fails.load(Ordering::SeqCst) {
                return Err("the HSM is on fire".into());
            }
            self.key.sign(message).await
        })
    }
}
