//! The compact serialization of a signed JWT (RFC 7515 §3.1).

use aws_lc_rs::rand;
use base64::{Engine, encoded_len, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Signer, SigningAlgorithm};
use crate::error::BoxError;

/// A `jti` that nobody guesses and that never comes twice: 128 random bits.
pub(crate) fn jti() -> Result<String, BoxError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| "the random number generator of the system failed")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Signs a header, base64url already, and claims. A `&dyn Signer` whose future is ready makes this one ready at once.
pub(crate) async fn sign(
    signer: &dyn Signer,
    header: &str,
    claims: &[u8],
) -> Result<String, BoxError> {
    let algorithm = signer.algorithm();
    let length = |bytes| encoded_len(bytes, false).unwrap_or(0);
    // RSA keys longer than 4096 bits make it grow, which is nothing beside their signatures.
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

/// How many bytes a signature has, where that does not depend on the key.
fn fixed_length(algorithm: SigningAlgorithm) -> Option<usize> {
    match algorithm {
        SigningAlgorithm::HS256 => Some(32),
        SigningAlgorithm::HS384 => Some(48),
        SigningAlgorithm::ES256 | SigningAlgorithm::EdDSA | SigningAlgorithm::HS512 => Some(64),
        SigningAlgorithm::ES384 => Some(96),
        _ => None,
    }
}

/// Key services give ECDSA signatures as DER, which no server takes in a JWT, and which none explains.
fn check_length(algorithm: SigningAlgorithm, length: usize) -> Result<(), BoxError> {
    match fixed_length(algorithm) {
        Some(right) if length != right => Err(format!(
            "the signer made a signature of {length} bytes, and {algorithm} has {right}; \
             one of ECDSA is `r` and `s` in a row, not DER (RFC 7518 section 3.4)"
        )
        .into()),
        None if length == 0 => Err("the signer made an empty signature".into()),
        _ => Ok(()),
    }
}
