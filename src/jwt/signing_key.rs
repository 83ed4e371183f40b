//! `SigningKey`: a private key in this process.

use std::{fmt, future, sync::Arc, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    InvalidKey, PublicKey, SignFuture, Signer, SigningAlgorithm, jwk::Jwk, key_pair::KeyPair, pem,
};
use crate::{
    base::{
        Quoted,
        certificate::{Certificate, Validity},
        clock,
    },
    error::OwnError,
};

/// A [`Signer`] with a private key in this process.
///
/// It supports every [`SigningAlgorithm`] except the `HS` ones, which need a shared secret. The constructors check the key and the
/// algorithm, so a `SigningKey` can always sign.
///
/// Cloning is cheap. Signing never waits: its future is ready at once. An RSA signature takes up to a millisecond or two.
///
/// # Security
///
/// `Debug` shows the algorithm, `kid` and the thumbprint of the public key. Copies of the private key that this crate makes while
/// reading it are wiped from memory. The caller's own copy is not.
///
/// # Examples
///
/// ```no_run
/// use tower_oauth2_client::{
///     BoxError, ClientAuthentication,
///     jwt::{SigningAlgorithm, SigningKey},
/// };
///
/// # fn example() -> Result<(), BoxError> {
/// let pem = std::fs::read("client-key.pem")?;
/// let key = SigningKey::from_pem(pem, SigningAlgorithm::ES256)?.kid("2026-11");
/// let client = ClientAuthentication::private_key_jwt("client", key);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SigningKey {
    key: Arc<LoadedKey>,
    algorithm: SigningAlgorithm,
    key_id: Option<Arc<str>>,
    certificate_thumbprint: Option<Arc<str>>,
    certificate_chain: Option<Arc<[String]>>,
}

struct LoadedKey {
    pair: KeyPair,
    public_key: PublicKey,
}

impl SigningKey {
    /// Reads a private key in PEM.
    ///
    /// The section is `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1). Certificates in the PEM are
    /// ignored; to use one, pass it to [`certificate`](Self::certificate).
    ///
    /// The line breaks of the section do not matter: it may be indented, stand on a single line, or contain `\n` as two characters, as
    /// in many environment variables. Text outside of the section is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM does not contain exactly one private key, if the key is malformed, encrypted or does not fit the
    /// algorithm, or if it is an RSA key shorter than 2048 bits.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::jwt::{SigningAlgorithm, SigningKey};
    ///
    /// let pem = "-----BEGIN PRIVATE KEY-----
    /// MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
    /// -----END PRIVATE KEY-----";
    /// let key = SigningKey::from_pem(pem, SigningAlgorithm::EdDSA)?;
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn from_pem(
        pem: impl AsRef<[u8]>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, InvalidKey> {
        let der = pem::private_key(pem.as_ref())?;
        Self::new(KeyPair::from_der(&der, algorithm)?, algorithm)
    }

    /// Reads a private key in DER: PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    ///
    /// Returns an error if the key is malformed, encrypted or does not fit the algorithm, or if it is an RSA key shorter than 2048 bits.
    pub fn from_der(
        der: impl AsRef<[u8]>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, InvalidKey> {
        Self::new(KeyPair::from_der(der.as_ref(), algorithm)?, algorithm)
    }

    /// Reads a private JWK ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)).
    ///
    /// The key is RSA with `p`, `q`, `dp`, `dq` and `qi`, EC on P-256, P-384 or P-521, Ed25519, or ML-DSA (`"kty":"AKP"`, with the seed as
    /// `priv`). The `kid` and `alg` of the JWK are used. An RSA or ML-DSA key must have `alg`; for the other keys, the curve determines
    /// the algorithm. An Ed25519 key without `alg` signs as [`EdDSA`](SigningAlgorithm::EdDSA).
    ///
    /// # Errors
    ///
    /// Returns an error if the JWK is malformed, a public key, a set of keys, a key that is not for signing (`use`, `key_ops`), or an
    /// RSA key shorter than 2048 bits;
    /// or if its `alg` does not fit the key or is missing from an RSA or ML-DSA key.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::jwt::{Signer, SigningAlgorithm, SigningKey};
    ///
    /// let key = SigningKey::from_jwk(
    ///     r#"{"kty":"OKP","crv":"Ed25519","kid":"1",
    ///         "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    ///         "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    /// )?;
    /// assert_eq!(key.algorithm(), SigningAlgorithm::EdDSA);
    /// assert_eq!(Signer::key_id(&key), Some("1"));
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn from_jwk(json: impl AsRef<str>) -> Result<Self, InvalidKey> {
        let jwk = Jwk::parse(json.as_ref())?;
        let algorithm = jwk
            .algorithm()?
            .map_or_else(|| default_algorithm(&jwk), Ok)?;
        Self::read_jwk(&jwk, algorithm)
    }

    /// Reads a private JWK like [`from_jwk`](Self::from_jwk), but ignores its `alg` and uses `algorithm`.
    ///
    /// # Errors
    ///
    /// Returns an error if the JWK is malformed, a public key, a set of keys, a key that is not for signing (`use`, `key_ops`), or an
    /// RSA key shorter than 2048 bits;
    /// or if the algorithm does not fit the key.
    pub fn from_jwk_with(
        json: impl AsRef<str>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, InvalidKey> {
        Self::read_jwk(&Jwk::parse(json.as_ref())?, algorithm)
    }

    fn read_jwk(jwk: &Jwk, algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        jwk.check_purpose(&["sign"])?;
        let key = Self::new(KeyPair::from_jwk(jwk, algorithm)?, algorithm)?;
        Ok(match jwk.text("kid") {
            Some(key_id) => key.kid(key_id),
            None => key,
        })
    }

    /// Generates a new key, for DPoP or for tests. An RSA key has 2048 bits.
    ///
    /// The key cannot be exported, so it lasts only as long as this process.
    ///
    /// # Errors
    ///
    /// Returns an error if the algorithm needs a shared secret, or if the system's random number generator fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::jwt::{SigningAlgorithm, SigningKey};
    ///
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?;
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        Self::new(KeyPair::generate(algorithm)?, algorithm)
    }

    fn new(pair: KeyPair, algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        let public_key = pair.public_key()?;
        Ok(Self {
            key: Arc::new(LoadedKey { pair, public_key }),
            algorithm,
            key_id: None,
            certificate_thumbprint: None,
            certificate_chain: None,
        })
    }

    /// Sets `kid`, the name under which the server knows the key.
    ///
    /// It is sent in the header of client assertions, and is in the [public JWK](Self::public_jwk).
    ///
    /// Default is the `kid` of the JWK that the key was read from. If there is none, assertions and the public JWK have no `kid`, and the
    /// server has to try every key of the client.
    #[must_use]
    pub fn kid(mut self, kid: impl AsRef<str>) -> Self {
        self.key_id = Some(kid.as_ref().into());
        self
    }

    /// Sets [`kid`](Self::kid) to the SHA-256 thumbprint of the public key
    /// ([RFC 7638](https://www.rfc-editor.org/rfc/rfc7638)), a name that no other key has.
    #[must_use]
    pub fn kid_from_thumbprint(self) -> Self {
        let thumbprint = self.key.public_key.thumbprint().to_owned();
        self.kid(thumbprint)
    }

    /// Returns the public JWK under which to register the key at an authorization server.
    ///
    /// It contains the members of the public key, `alg`, `use` with the value `sig`, and the [`kid`](Self::kid) if there is one. `alg` and
    /// `kid` are those that client assertions carry in their header. It contains no member of the private key.
    ///
    /// # Examples
    ///
    /// The set of keys for the registration of a client, or to serve at its `jwks_uri`:
    ///
    /// ```
    /// use tower_oauth2_client::jwt::{SigningAlgorithm, SigningKey};
    ///
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let jwks = serde_json::json!({ "keys": [key.public_jwk()] });
    /// assert_eq!(jwks["keys"][0]["kid"], "2026-11");
    /// assert_eq!(jwks["keys"][0]["alg"], "ES256");
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let public_key = &self.key.public_key;
        public_key.to_jwk(self.algorithm, self.key_id.as_deref())
    }

    /// Sets the certificate of the key, in PEM or DER.
    ///
    /// Client assertions then contain its SHA-256 thumbprint as `x5t#S256`
    /// ([RFC 7515 §4.1.8](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.8)). If a chain is passed, its first certificate is used.
    /// Default is none. To send the certificate itself too, use [`certificate_chain`](Self::certificate_chain).
    ///
    /// # Errors
    ///
    /// Returns an error if this is not a certificate, if it belongs to another key, or if it is not valid now. A certificate that becomes
    /// valid within the next minute is accepted, because the clocks of this machine and of the CA may differ. The validity period is
    /// checked only here, not when the key signs.
    pub fn certificate(mut self, pem_or_der: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        self.set_certificates(pem_or_der.as_ref())?;
        Ok(self)
    }

    /// Sets the certificate of the key with the certificates that certify it, in PEM (a single certificate also in DER).
    ///
    /// Client assertions then contain the thumbprint of the first certificate as `x5t#S256`, as with [`certificate`](Self::certificate),
    /// and all of them as `x5c` ([RFC 7515 §4.1.6](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.6)). Default is none.
    ///
    /// Entra ID needs `x5c` if the application trusts certificates by subject name and issuer, so that they can be rotated without
    /// changing the registration.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`certificate`](Self::certificate). Of the other certificates, only the form is checked.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// # fn example() -> Result<(), BoxError> {
    /// // The file contains the key, its certificate and the intermediate certificates.
    /// let pem = std::fs::read("entra.pem")?;
    /// let key = SigningKey::from_pem(&pem, SigningAlgorithm::PS256)?.certificate_chain(&pem)?;
    /// let client = ClientAuthentication::private_key_jwt("11111111-2222-3333-4444-555555555555", key);
    /// # Ok(())
    /// # }
    /// ```
    pub fn certificate_chain(mut self, pem_or_der: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let chain = self.set_certificates(pem_or_der.as_ref())?;
        self.certificate_chain = Some(
            chain
                .iter()
                .map(|der| BASE64_STANDARD.encode(der))
                .collect(),
        );
        Ok(self)
    }

    /// Sets the thumbprint of the first certificate, and returns every certificate in DER.
    fn set_certificates(&mut self, pem_or_der: &[u8]) -> Result<Vec<Vec<u8>>, InvalidKey> {
        let chain = match pem::is_pem(pem_or_der) {
            true => pem::certificates(pem_or_der)?,
            false => vec![pem_or_der.to_vec()],
        };
        let public_key = self.key.pair.subject_public_key();
        let mut own_thumbprint = None;
        for (index, der) in chain.iter().enumerate() {
            let certificate = Certificate::from_der(der).map_err(|_| {
                InvalidKey::new(
                    "the certificate is not an X.509 certificate in PEM or DER (RFC 5280)",
                )
            })?;
            if index == 0 {
                own_thumbprint = Some(thumbprint(certificate, public_key)?.into());
            }
        }
        self.certificate_thumbprint = own_thumbprint;
        self.certificate_chain = None;
        Ok(chain)
    }
}

/// Returns the SHA-256 thumbprint of a certificate that is valid now and belongs to the public key.
///
/// `public_key` is the content of the certificate's `subjectPublicKey`.
fn thumbprint(certificate: Certificate, public_key: &[u8]) -> Result<String, InvalidKey> {
    if certificate.public_key != public_key {
        return Err(InvalidKey::new(
            "the certificate belongs to another key; in a chain, the certificate of the key must come first",
        ));
    }
    match certificate.validity_at(clock::wall_now()) {
        Validity::Valid => Ok(certificate.thumbprint),
        Validity::NotYet => Err(InvalidKey::new(format!(
            "the certificate is not valid before {}; check the clock of this host, or pass a valid certificate",
            date(certificate.valid_from)
        ))),
        Validity::Expired => Err(InvalidKey::new(format!(
            "the certificate expired on {}; pass its successor",
            date(certificate.expires_at)
        ))),
    }
}

fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

/// Returns the only algorithm that the curve allows.
fn default_algorithm(jwk: &Jwk) -> Result<SigningAlgorithm, InvalidKey> {
    use super::jwk::{Curve, KeyType};
    match jwk.key_type()? {
        KeyType::Rsa => Err(InvalidKey::new(
            "the JWK has no `alg`, and an RSA key supports several algorithms; use `from_jwk_with`",
        )),
        KeyType::Ec(Curve::P256) => Ok(SigningAlgorithm::ES256),
        KeyType::Ec(Curve::P384) => Ok(SigningAlgorithm::ES384),
        KeyType::Ec(Curve::P521) => Ok(SigningAlgorithm::ES512),
        KeyType::Ed25519 => Ok(SigningAlgorithm::EdDSA),
        KeyType::MlDsa(parameters) => Ok(parameters.algorithm()),
    }
}

impl Signer for SigningKey {
    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn certificate_thumbprint(&self) -> Option<&str> {
        self.certificate_thumbprint.as_deref()
    }

    fn certificate_chain(&self) -> Option<&[String]> {
        self.certificate_chain.as_deref()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        Some(&self.key.public_key)
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        let signature = self.key.pair.sign(message);
        let signature = signature.map_err(|_| OwnError::new("the key failed to sign").into());
        Box::pin(future::ready(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id.as_deref().map(Quoted))
            .field("public_key", &self.key.public_key)
            .finish_non_exhaustive()
    }
}
