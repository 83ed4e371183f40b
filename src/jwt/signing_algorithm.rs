//! `SigningAlgorithm`: how a JWT is signed.

use std::{error::Error, fmt, str::FromStr};

use crate::base::Quoted;

/// The signature algorithm of a JWT ([RFC 7518 §3.1](https://www.rfc-editor.org/rfc/rfc7518#section-3.1)).
///
/// It is parsed from its name, and printed as its name.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::jwt::SigningAlgorithm;
///
/// let algorithm: SigningAlgorithm = "PS256".parse()?;
/// assert_eq!(algorithm, SigningAlgorithm::PS256);
/// assert_eq!(algorithm.to_string(), "PS256");
/// # Ok::<_, tower_oauth2_client::jwt::UnsupportedAlgorithm>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519 ([RFC 8037 §3.1](https://www.rfc-editor.org/rfc/rfc8037#section-3.1)).
    ///
    /// It is sent as `EdDSA`, the name that servers know. [RFC 9864 §2.2](https://www.rfc-editor.org/rfc/rfc9864#section-2.2) renames it
    /// to `Ed25519`, which is read as the same algorithm.
    EdDSA,
}

const ALL: [SigningAlgorithm; 12] = [
    SigningAlgorithm::HS256,
    SigningAlgorithm::HS384,
    SigningAlgorithm::HS512,
    SigningAlgorithm::RS256,
    SigningAlgorithm::RS384,
    SigningAlgorithm::RS512,
    SigningAlgorithm::PS256,
    SigningAlgorithm::PS384,
    SigningAlgorithm::PS512,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
];

/// The name that RFC 9864 gives to `EdDSA` with this curve.
const ED25519: &str = "Ed25519";

impl SigningAlgorithm {
    /// Returns the value of `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// Parses the value of `alg`. Case matters. `Ed25519` (RFC 9864) is another name of `EdDSA`.
impl FromStr for SigningAlgorithm {
    type Err = UnsupportedAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnsupportedAlgorithm> {
        let mut all = ALL.into_iter();
        match name {
            ED25519 => Ok(Self::EdDSA),
            _ => all
                .find(|algorithm| algorithm.as_str() == name)
                .ok_or_else(|| UnsupportedAlgorithm(name.into())),
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error for the name of a signature algorithm that this crate does not support.
///
/// `Display` lists the supported names.
#[derive(Clone, PartialEq, Eq)]
pub struct UnsupportedAlgorithm(Box<str>);

impl fmt::Display for UnsupportedAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Quoted(&self.0);
        write!(
            f,
            "the signature algorithm `{name}` is not supported; use one of "
        )?;
        for algorithm in ALL {
            write!(f, "{algorithm}, ")?;
        }
        write!(f, "{ED25519}")
    }
}

impl fmt::Debug for UnsupportedAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsupportedAlgorithm({:?})", Quoted(&self.0))
    }
}

impl Error for UnsupportedAlgorithm {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_parsed_from_the_name_that_it_prints() {
        for algorithm in ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(format!("{algorithm:>6}").trim_start(), algorithm.as_str());
        }
        assert_eq!("Ed25519".parse(), Ok(SigningAlgorithm::EdDSA));
    }

    #[test]
    fn other_names_are_refused_and_the_supported_ones_are_listed() {
        let long = "x".repeat(10_000);
        for name in [
            "es256", "EDDSA", "ed25519", "ES512", "Ed448", "none", " ES256", "ES256\n", "", &long,
        ] {
            let error = name.parse::<SigningAlgorithm>().unwrap_err();
            let shown = error.to_string();
            for algorithm in ALL {
                assert!(shown.contains(algorithm.as_str()), "{shown}");
            }
            assert!(shown.ends_with("EdDSA, Ed25519"), "{shown}");
            for shown in [shown, format!("{error:?}")] {
                assert!(!shown.contains('\n') && shown.len() < 500, "{shown}");
            }
        }
    }
}
