//! `SigningKey`: a private key in this process.

use std::{fmt, future, sync::Arc};

use super::{
    InvalidKey, PublicKey, SignFuture, Signer, SigningAlgorithm, certificate, jwk::Jwk,
    key_pair::KeyPair, pem,
};
use crate::error::BoxError;

/// A [`Signer`] whose private key is in this process, and the algorithm with which it signs.
///
/// Every algorithm of [`SigningAlgorithm`] but the `HS` ones, which sign with a secret. A key is judged here: what is
/// constructed can sign.
///
/// Cloning is cheap. To sign takes the time of the signature and never waits; an RSA signature takes up to a millisecond or two.
///
/// # Security
///
/// `Debug` shows the algorithm, `kid` and the thumbprint of the public key. What this crate reads of the private key is wiped
/// from memory; what the caller passed in is the caller's.
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
    key: Arc<Key>,
    algorithm: SigningAlgorithm,
    key_id: Option<Arc<str>>,
    certificate_thumbprint: Option<Arc<str>>,
}

struct Key {
    pair: KeyPair,
    public_key: PublicKey,
}

impl SigningKey {
    /// Reads the private key in a PEM text: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1).
    /// Certificates beside it are passed over; see [`certificate`](Self::certificate).
    ///
    /// # Errors
    ///
    /// There is no private key in the text, or more than one; it is broken or encrypted; it does not fit the algorithm; it is
    /// an RSA key of less than 2048 bits.
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
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(
        der: impl AsRef<[u8]>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, InvalidKey> {
        Self::new(KeyPair::from_der(der.as_ref(), algorithm)?, algorithm)
    }

    /// Reads a private JWK ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)): RSA with `p`, `q`, `dp`, `dq` and `qi`, EC on
    /// P-256 or P-384, or Ed25519. Its `kid` and its `alg` are taken over. An RSA key needs `alg`; the others say by their curve
    /// with what they sign.
    ///
    /// # Errors
    ///
    /// The JWK is broken, public, a set, or for encryption; it lacks `alg`, or has one that does not fit.
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

    /// As [`from_jwk`](Self::from_jwk), with an algorithm in place of the `alg` of the JWK.
    ///
    /// # Errors
    ///
    /// As [`from_jwk`](Self::from_jwk).
    pub fn from_jwk_with(
        json: impl AsRef<str>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self, InvalidKey> {
        Self::read_jwk(&Jwk::parse(json.as_ref())?, algorithm)
    }

    fn read_jwk(jwk: &Jwk, algorithm: SigningAlgorithm) -> Result<Self, InvalidKey> {
        if jwk.text("use").is_some_and(|usage| usage != "sig") {
            return Err(InvalidKey::new(
                "the JWK is not for signatures (its `use` is not `sig`); give one that is",
            ));
        }
        let key = Self::new(KeyPair::from_jwk(jwk, algorithm)?, algorithm)?;
        Ok(match jwk.text("kid") {
            Some(key_id) => key.kid(key_id),
            None => key,
        })
    }

    /// Makes a new key, which ends with this process: for DPoP, and for tests. An RSA key has 2048 bits.
    ///
    /// # Errors
    ///
    /// The algorithm signs with a secret, or there is no randomness.
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
            key: Arc::new(Key { pair, public_key }),
            algorithm,
            key_id: None,
            certificate_thumbprint: None,
        })
    }

    /// The name under which the server knows the key (`kid`). Default is none, or that of the JWK.
    #[must_use]
    pub fn kid(mut self, kid: impl AsRef<str>) -> Self {
        self.key_id = Some(kid.as_ref().into());
        self
    }

    /// The certificate of the key, in PEM or DER, whose SHA-256 thumbprint then stands in client assertions as `x5t#S256`
    /// ([RFC 7515 §4.1.8](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.8)). Of a chain, the first is taken. Default is none.
    ///
    /// # Errors
    ///
    /// It is no certificate, it is that of another key, or it is not valid now. That is judged once, here.
    pub fn certificate(mut self, pem_or_der: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let public_key = self.key.pair.subject_public_key();
        let thumbprint = certificate::thumbprint(pem_or_der.as_ref(), public_key)?;
        self.certificate_thumbprint = Some(thumbprint.into());
        Ok(self)
    }
}

/// The one algorithm of the curve.
fn default_algorithm(jwk: &Jwk) -> Result<SigningAlgorithm, InvalidKey> {
    use super::jwk::{Curve, KeyType};
    match jwk.key_type()? {
        KeyType::Rsa => Err(InvalidKey::new(
            "the JWK has no `alg`, and RSA keys sign with several; use `from_jwk_with`",
        )),
        KeyType::Ec(Curve::P256) => Ok(SigningAlgorithm::ES256),
        KeyType::Ec(Curve::P384) => Ok(SigningAlgorithm::ES384),
        KeyType::Ed25519 => Ok(SigningAlgorithm::EdDSA),
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

    fn public_key(&self) -> Option<&PublicKey> {
        Some(&self.key.public_key)
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        let signature = self.key.pair.sign(message);
        let signature = signature.map_err(|_| BoxError::from("the key could not sign"));
        Box::pin(future::ready(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .field("public_key", &self.key.public_key)
            .finish_non_exhaustive()
    }
}
