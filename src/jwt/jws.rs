//! Signs a JWT and writes it in the compact serialization (RFC 7515 §3.1).

use aws_lc_rs::rand;
use base64::{Engine, encoded_len, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Signer, SigningAlgorithm, ml_dsa::MlDsa};
use crate::error::{BoxError, OwnError};

/// Returns a new `jti`: 128 random bits, so it is unique and cannot be guessed.
pub(crate) fn jti() -> Result<String, BoxError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)
        .map_err(|_| OwnError::new("the system's random number generator failed"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Signs claims and a header. The header is already base64url.
///
/// This future is ready at once if the signer's future is.
pub(crate) async fn sign(
    signer: &dyn Signer,
    header: &str,
    claims: &[u8],
) -> Result<String, BoxError> {
    let algorithm = signer.algorithm();
    let length = |bytes| encoded_len(bytes, false).unwrap_or(0);
    // For an RSA key longer than 4096 bits the string must grow, which costs little compared to the signature.
    let signature_length = fixed_length(algorithm).unwrap_or(512);
    let capacity = header.len() + length(claims.len()) + length(signature_length) + 2;
    let mut token = String::with_capacity(capacity);
    token.push_str(header);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = signer.sign(token.as_bytes()).await?;
    check_length(algorithm, signature.len())?;
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Returns the length of a signature in bytes, unless it depends on the key.
fn fixed_length(algorithm: SigningAlgorithm) -> Option<usize> {
    use SigningAlgorithm as A;
    match algorithm {
        A::HS256 => Some(32),
        A::HS384 => Some(48),
        A::HS512 | A::ES256 | A::EdDSA | A::Ed25519 => Some(64),
        A::ES384 => Some(96),
        A::ES512 => Some(132),
        A::MlDsa44 | A::MlDsa65 | A::MlDsa87 => MlDsa::of(algorithm).map(MlDsa::signature),
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => None,
    }
}

/// Checks the length of the signature, to catch ECDSA signatures in DER.
///
/// Key management services return DER. Servers reject it in a JWT without a helpful error.
fn check_length(algorithm: SigningAlgorithm, length: usize) -> Result<(), OwnError> {
    match fixed_length(algorithm) {
        Some(right) if length != right => Err(OwnError::new(format!(
            "the signer returned a signature of {length} bytes, but {algorithm} needs {right}; \
             return an ECDSA signature as `r` followed by `s`, not as DER (RFC 7518 section 3.4)"
        ))),
        None if length == 0 => Err(OwnError::new("the signer returned an empty signature")),
        _ => Ok(()),
    }
}
