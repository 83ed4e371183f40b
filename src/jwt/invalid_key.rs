//! What is wrong with a key or with the certificate of one.

use std::{borrow::Cow, error::Error, fmt};

/// A key or a certificate that cannot be used.
///
/// `Display` says what is wrong and what to do.
///
/// # Security
///
/// Neither `Display` nor `Debug` shows anything of the key.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::jwt::{SigningAlgorithm, SigningKey};
///
/// let error = SigningKey::from_pem("client-key.pem", SigningAlgorithm::ES256).unwrap_err();
/// assert!(error.to_string().contains("no PEM"));
/// ```
#[derive(Clone, Debug)]
pub struct InvalidKey(Cow<'static, str>);

impl InvalidKey {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// Of an RSA key, in whatever form it comes.
    pub(super) fn too_small() -> Self {
        Self::new(
            "the RSA key has less than 2048 bits, which RFC 7518 section 3.3 forbids; make a longer one",
        )
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidKey {}
