//! What is random in one sign-in, and the PKCE challenge (RFC 7636).

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{error::TokenError, secret::Secret};

/// The random texts of one sign-in.
pub(super) struct Drawn {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) code_verifier: Secret,
}

impl Drawn {
    /// Draws three times 256 bits.
    pub(super) fn new() -> Result<Self, TokenError> {
        Ok(Self {
            state: random()?,
            nonce: random()?,
            code_verifier: Secret::new(random()?),
        })
    }
}

/// 256 random bits as 43 characters, which is the form that RFC 7636 §4.1 recommends for a code verifier.
fn random() -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| {
        TokenError::request(
            "the authorization request was not made: the system's random number generator failed",
        )
    })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// The challenge of a verifier by the method `S256` (RFC 7636 §4.2).
pub(super) fn s256(code_verifier: &Secret) -> String {
    let hash = digest(&SHA256, code_verifier.expose().as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::message::is_code_verifier;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            s256(&verifier),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn every_text_is_random_and_a_valid_verifier() {
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let drawn = Drawn::new().unwrap();
            for text in [&*drawn.state, &drawn.nonce, drawn.code_verifier.expose()] {
                assert!(is_code_verifier(text), "{text}");
                assert!(seen.insert(text.to_owned()));
            }
        }
    }
}
