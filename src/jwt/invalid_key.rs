//! `InvalidKey`: why a key or its certificate cannot be used.

use std::{borrow::Cow, error::Error, fmt};

/// The error for a key or a certificate that cannot be used.
///
/// `Display` says what is wrong and how to fix it.
///
/// # Security
///
/// Neither `Display` nor `Debug` shows any part of the key.
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

    /// The error for a short RSA key, whatever its format.
    pub(super) fn too_small() -> Self {
        Self::new(
            "the RSA key is shorter than 2048 bits, which RFC 7518 section 3.3 forbids; generate a longer one",
        )
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidKey {}
