//! Reads JWTs, and verifies their signatures: those of client assertions and of DPoP proofs.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::jwt::{
    PublicKey,
    SigningAlgorithm::{self, ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512},
};

/// "a registered asymmetric digital signature algorithm" (RFC 9449 §4.2), so neither `none` nor `HS256`. Those sign assertions, too.
const ALGORITHMS: [SigningAlgorithm; 9] = [
    ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512,
];

#[cfg(feature = "dpop")]
pub(super) fn names() -> [&'static str; 9] {
    ALGORITHMS.map(SigningAlgorithm::as_str)
}

pub(super) fn named(name: &str) -> Option<SigningAlgorithm> {
    ALGORITHMS
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
}

/// Decodes the header or the claims of a JWT.
pub(super) fn object(part: &str) -> Option<Map<String, Value>> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// Whether the signature was made with this algorithm and the private half of this key.
pub(super) fn verifies(
    algorithm: SigningAlgorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    if key.check_fits(algorithm).is_err() {
        return false;
    }
    let Ok(jwk) = serde_json::from_str::<Value>(key.as_json()) else {
        return false;
    };
    let member = |name| {
        let text = jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
    };
    let by_bytes = |algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).is_ok()
    };
    // An uncompressed point (SEC 1, 2.3.3).
    let point = || [vec![4], member("x"), member("y")].concat();
    let by_rsa = |parameters: &RsaParameters| {
        let (n, e) = (member("n"), member("e"));
        let key = RsaPublicKeyComponents { n, e };
        key.verify(parameters, message, signature).is_ok()
    };
    match algorithm {
        ES256 => by_bytes(&ECDSA_P256_SHA256_FIXED, point()),
        ES384 => by_bytes(&ECDSA_P384_SHA384_FIXED, point()),
        EdDSA => by_bytes(&ED25519, member("x")),
        PS256 => by_rsa(&RSA_PSS_2048_8192_SHA256),
        PS384 => by_rsa(&RSA_PSS_2048_8192_SHA384),
        PS512 => by_rsa(&RSA_PSS_2048_8192_SHA512),
        RS256 => by_rsa(&RSA_PKCS1_2048_8192_SHA256),
        RS384 => by_rsa(&RSA_PKCS1_2048_8192_SHA384),
        RS512 => by_rsa(&RSA_PKCS1_2048_8192_SHA512),
        _ => false,
    }
}
