//! `DpopKey`: the key that tokens are bound to. It signs proofs.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{
    Proof, Role,
    nonces::Nonces,
    proof::{Claims, htu},
};
use crate::{
    base::{clock, origin::Origin},
    error::{BoxError, OwnError, TokenError},
    jwt::{
        InvalidKey, Signer,
        SigningAlgorithm::{self, HS256, HS384, HS512},
        SigningKey, jws,
    },
};

/// The key that access tokens are bound to (DPoP, [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
///
/// A stolen token that is bound to a key is useless without the key.
///
/// Pass the key to [`TokenEndpoint::dpop`](crate::TokenEndpoint::dpop); nothing else is needed. Token requests then carry a proof, the
/// tokens are bound to the key, and [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) adds a proof to each request that carries one
/// of these tokens.
///
/// The key also stores the latest nonce of each server (by origin), for up to 1,024 servers. Clones share the key and the nonces. Two
/// keys are equal if their thumbprints and algorithms are equal.
///
/// # Security
///
/// `Debug` shows the thumbprint.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{
///     AddAccessTokenLayer, BoxError, ClientAuthentication, DpopKey, TokenCache, TokenEndpoint,
///     TokenRequest,
/// };
/// # use tower_oauth2_client::HttpsClient;
///
/// # fn example(http: HttpsClient) -> Result<(), BoxError> {
/// let endpoint = TokenEndpoint::new(
///     http.clone(),
///     "https://as.example/token",
///     ClientAuthentication::client_secret_basic("client", "secret"),
/// )
/// .dpop(DpopKey::generate()?);
///
/// let tokens = TokenCache::new(endpoint);
/// let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
/// let api = ServiceBuilder::new()
///     .layer(AddAccessTokenLayer::new(source).origin("https://api.example")?)
///     .service(http);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    signer: Box<dyn Signer>,
    thumbprint: String,
    /// The header of every proof, base64url.
    header: String,
    nonces: Nonces,
}

impl DpopKey {
    /// Generates a new P-256 key, which signs with ES256.
    ///
    /// The key lasts only as long as this process. Tokens that are bound to it cannot be used afterwards.
    ///
    /// # Errors
    ///
    /// Returns an error if the system's random number generator fails.
    pub fn generate() -> Result<Self, InvalidKey> {
        Self::new(SigningKey::generate(SigningAlgorithm::ES256)?)
    }

    /// Uses an existing key: one in this process, or one in a KMS or HSM.
    ///
    /// # Errors
    ///
    /// Returns an error if the signer does not return its [public key](Signer::public_key), needs a shared secret, or uses an algorithm
    /// that does not fit the key.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     DpopKey,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// let key = DpopKey::new(SigningKey::generate(SigningAlgorithm::EdDSA)?)?;
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn new(signer: impl Signer + 'static) -> Result<Self, InvalidKey> {
        let algorithm = signer.algorithm();
        if let HS256 | HS384 | HS512 = algorithm {
            return Err(InvalidKey::new(format!(
                "a DPoP proof cannot be signed with {algorithm}, which needs a shared secret; use a private key (RFC 9449 section 4.2)"
            )));
        }
        let Some(public_key) = signer.public_key() else {
            return Err(InvalidKey::new(
                "the signer does not return its public key, which every DPoP proof contains; implement `Signer::public_key`",
            ));
        };
        public_key.check_fits(algorithm)?;
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"{algorithm}","jwk":{}}}"#,
            public_key.as_json()
        );
        let thumbprint = public_key.thumbprint().to_owned();
        Ok(Self(Arc::new(Inner {
            thumbprint,
            header: BASE64_URL_SAFE_NO_PAD.encode(header),
            signer: Box::new(signer),
            nonces: Nonces::default(),
        })))
    }

    /// Returns the SHA-256 thumbprint of the public key, base64url.
    ///
    /// It is `dpop_jkt` in an authorization request ([RFC 9449 §10](https://www.rfc-editor.org/rfc/rfc9449#section-10)), and `jkt` in a
    /// bound token (§6).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// Returns the algorithm of the proofs' signatures.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.0.signer.algorithm()
    }

    pub(crate) fn algorithm_name(&self) -> &'static str {
        self.algorithm().as_str()
    }

    /// Returns the `ath` claim for a token: its SHA-256 digest.
    pub(crate) fn token_hash(&self, token: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
    }

    pub(crate) async fn prove(
        &self,
        role: Role,
        method: &Method,
        uri: &Uri,
        token_hash: Option<&str>,
    ) -> Result<Proof, TokenError> {
        let origin = Origin::over_http(uri).ok_or_else(|| TokenError::request(NOT_ABSOLUTE))?;
        let nonce = self.0.nonces.get(role, &origin);
        let htu = htu(&origin, uri);
        let header = self.sign(method, &htu, token_hash, nonce.as_deref()).await;
        let header = header.map_err(|source| {
            let message = "failed to create the DPoP proof; the request was not sent";
            TokenError::of_provider(message, source)
        })?;
        Ok(Proof { header, nonce })
    }

    async fn sign(
        &self,
        method: &Method,
        htu: &str,
        ath: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<HeaderValue, BoxError> {
        let jti = jws::jti()?;
        let claims = Claims {
            jti: &jti,
            htm: method.as_str(),
            htu,
            iat: clock::unix_now(),
            ath,
            nonce,
        };
        let Inner { signer, header, .. } = &*self.0;
        let proof = jws::sign(&**signer, header, &claims.to_json()?).await?;
        let mut proof = HeaderValue::try_from(proof)
            .map_err(|_| OwnError::new("the proof cannot be sent in a header"))?;
        proof.set_sensitive(true);
        Ok(proof)
    }

    /// Stores the nonce of a response, if it contains one.
    pub(crate) fn note_nonce(&self, role: Role, uri: &Uri, headers: &HeaderMap) {
        if let Some(origin) = Origin::over_http(uri) {
            self.0.nonces.note(role, origin, headers);
        }
    }
}

const NOT_ABSOLUTE: &str = "the request was not sent: its URI lacks a scheme or a valid host, which a DPoP proof must contain; \
                            use an absolute URI, or set the API's only origin with `AddAccessTokenLayer::origin`";

impl PartialEq for DpopKey {
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint() == other.thumbprint() && self.algorithm() == other.algorithm()
    }
}

impl Eq for DpopKey {}

impl Hash for DpopKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.thumbprint(), self.algorithm()).hash(state);
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.algorithm())
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}
