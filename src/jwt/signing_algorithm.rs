//! `SigningAlgorithm`: how a JWT is signed.

use std::{error::Error, fmt, str::FromStr};

use crate::base::Quoted;

/// The signature algorithm of a JWT ([RFC 7518 §3.1](https://www.rfc-editor.org/rfc/rfc7518#section-3.1)).
///
/// It is parsed from its name, and printed as its name. The name is sent as `alg` in the header.
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
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519 ([RFC 8037 §3.1](https://www.rfc-editor.org/rfc/rfc8037#section-3.1)), under the name that most servers know: `EdDSA`.
    ///
    /// If the server's metadata list only the other name of this signature, [`Ed25519`](Self::Ed25519), that name is sent to this server.
    EdDSA,
    /// The same signature as [`EdDSA`](Self::EdDSA), under the name of
    /// [RFC 9864 §2.2](https://www.rfc-editor.org/rfc/rfc9864#section-2.2): `Ed25519`.
    ///
    /// Use it if the server or the key's registration says `Ed25519`: many servers compare `alg` of the header with `alg` of the
    /// registered key. If the server's metadata list only `EdDSA`, that name is sent to this server.
    Ed25519,
    /// ML-DSA-44 of FIPS 204 ([RFC 9964](https://www.rfc-editor.org/rfc/rfc9964)). It is printed as `ML-DSA-44`.
    ///
    /// A signature has 2,420 bytes. A DPoP proof, which contains the public key, has about 5 kB, which many servers accept in a header.
    MlDsa44,
    /// ML-DSA-65 of FIPS 204 ([RFC 9964](https://www.rfc-editor.org/rfc/rfc9964)). It is printed as `ML-DSA-65`.
    ///
    /// A signature has 3,309 bytes. A DPoP proof has about 7 kB, which is close to the limit that many servers have for all headers.
    MlDsa65,
    /// ML-DSA-87 of FIPS 204 ([RFC 9964](https://www.rfc-editor.org/rfc/rfc9964)). It is printed as `ML-DSA-87`.
    ///
    /// A signature has 4,627 bytes. A DPoP proof has about 10 kB, which many servers refuse in a header.
    MlDsa87,
}

const ALL: [SigningAlgorithm; 17] = [
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
    SigningAlgorithm::ES512,
    SigningAlgorithm::EdDSA,
    SigningAlgorithm::Ed25519,
    SigningAlgorithm::MlDsa44,
    SigningAlgorithm::MlDsa65,
    SigningAlgorithm::MlDsa87,
];

impl SigningAlgorithm {
    /// Returns the value of `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.names()[0]
    }

    /// Returns every name of this signature. The name of this algorithm comes first.
    pub(crate) fn names(&self) -> &'static [&'static str] {
        match self {
            Self::HS256 => &["HS256"],
            Self::HS384 => &["HS384"],
            Self::HS512 => &["HS512"],
            Self::RS256 => &["RS256"],
            Self::RS384 => &["RS384"],
            Self::RS512 => &["RS512"],
            Self::PS256 => &["PS256"],
            Self::PS384 => &["PS384"],
            Self::PS512 => &["PS512"],
            Self::ES256 => &["ES256"],
            Self::ES384 => &["ES384"],
            Self::ES512 => &["ES512"],
            Self::EdDSA => &["EdDSA", "Ed25519"],
            Self::Ed25519 => &["Ed25519", "EdDSA"],
            Self::MlDsa44 => &["ML-DSA-44"],
            Self::MlDsa65 => &["ML-DSA-65"],
            Self::MlDsa87 => &["ML-DSA-87"],
        }
    }
}

/// Parses the value of `alg`. Case matters.
impl FromStr for SigningAlgorithm {
    type Err = UnsupportedAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnsupportedAlgorithm> {
        ALL.into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or_else(|| UnsupportedAlgorithm(name.into()))
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
        for (index, algorithm) in ALL.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{algorithm}")?;
        }
        Ok(())
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
            assert_eq!(format!("{algorithm:>10}").trim_start(), algorithm.as_str());
        }
    }

    #[test]
    fn only_ed25519_has_two_names() {
        use SigningAlgorithm::{Ed25519, EdDSA};
        assert_eq!(EdDSA.names(), ["EdDSA", "Ed25519"]);
        assert_eq!(Ed25519.names(), ["Ed25519", "EdDSA"]);
        for algorithm in ALL {
            let is_ed25519 = matches!(algorithm, EdDSA | Ed25519);
            assert_eq!(algorithm.names().len() > 1, is_ed25519);
        }
    }

    #[test]
    fn other_names_are_refused_and_the_supported_ones_are_listed() {
        let long = "x".repeat(10_000);
        for name in [
            "es256",
            "EDDSA",
            "ed25519",
            "ES521",
            "ES256K",
            "Ed448",
            "ML-DSA",
            "ml-dsa-44",
            "MlDsa44",
            "none",
            " ES256",
            "ES256\n",
            "",
            &long,
        ] {
            let error = name.parse::<SigningAlgorithm>().unwrap_err();
            let shown = error.to_string();
            for algorithm in ALL {
                assert!(shown.contains(algorithm.as_str()), "{shown}");
            }
            assert!(
                shown.ends_with("EdDSA, Ed25519, ML-DSA-44, ML-DSA-65, ML-DSA-87"),
                "{shown}"
            );
            for shown in [shown, format!("{error:?}")] {
                assert!(!shown.contains('\n') && shown.len() < 500, "{shown}");
            }
        }
    }
}
