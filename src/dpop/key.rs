//! `DpopKey`: the key that tokens are bound to. It signs proofs.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;

use super::{
    Proof, Role,
    nonces::Nonces,
    proof::{Claims, OWN_CLAIMS, htu},
};
use crate::{
    base::{clock, origin::Origin, server_clock::ServerClocks},
    error::{BoxError, OwnError, TokenError},
    jwt::{
        InvalidKey, Members, PublicKey, Signer,
        SigningAlgorithm::{self, HS256, HS384, HS512},
        SigningKey, jws, whole_seconds,
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
/// The key also stores the latest nonce of each server (by origin), for up to 1,024 servers. Clones share the key and the nonces, even if
/// their settings are changed. Two keys are equal if their thumbprints, algorithms and settings are equal.
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

#[derive(Clone)]
struct Inner {
    signer: Arc<dyn Signer>,
    thumbprint: String,
    /// The header of every proof, base64url.
    header: String,
    nonces: Arc<Nonces>,
    settings: Settings,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Settings {
    iat_before_now: Duration,
    server_clocks: Option<ServerClocks>,
    claims: Members,
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
        Ok(Self(Arc::new(Inner {
            thumbprint: public_key.thumbprint().to_owned(),
            header: header(algorithm.as_str(), public_key),
            signer: Arc::new(signer),
            nonces: Arc::default(),
            settings: Settings::default(),
        })))
    }

    /// Sets the claim `iat` of proofs back by this time, rounded up to whole seconds. Default is zero.
    ///
    /// Use it for a server that rejects a proof "issued in the future" because its clock is a little behind, as older versions of Bluesky's
    /// servers do. A few seconds are enough. Servers accept a proof for a short time after `iat`
    /// ([RFC 9449 §11.1](https://www.rfc-editor.org/rfc/rfc9449#section-11.1)), so a long time makes them reject it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::DpopKey;
    ///
    /// let key = DpopKey::generate()?.iat_before_now(Duration::from_secs(5));
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn iat_before_now(self, time: Duration) -> Self {
        self.set(|settings| settings.iat_before_now = time)
    }

    /// Computes the claim `iat` of proofs from the server's clock instead of this machine's. Default is this machine's clock.
    ///
    /// Use it on machines whose clock cannot be trusted, such as devices without a battery. The difference between the clocks is learned
    /// from the header `Date` of each response, and applies to the requests after it. It is known for each server (by origin), for up to
    /// 1,024 servers: authorization servers and APIs. A response with the header `Age` comes from a cache and is ignored. So is a
    /// difference of more than ten minutes.
    ///
    /// If the authorization server rejects the proof (`invalid_dpop_proof`) or the client (`invalid_client`) and its responses show that
    /// the request was signed by a wrong time, the request is sent a second time at once. An API's first rejection reaches the caller. The expiry of tokens is
    /// not affected. For client assertions, see [`ClientAssertion::follow_server_clock`](crate::jwt::ClientAssertion::follow_server_clock).
    ///
    /// # Security
    ///
    /// A server can make this client sign proofs for up to ten minutes ahead, and keep them
    /// ([RFC 9449 §11.2](https://www.rfc-editor.org/rfc/rfc9449#section-11.2)). They are only of use to whoever received them, for the method
    /// and the URI that they name. Where a server demands nonces, they are of no use. Over plain `http`, everybody on the network can do so.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::DpopKey;
    ///
    /// let key = DpopKey::generate()?.follow_server_clock();
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn follow_server_clock(self) -> Self {
        self.set(|settings| settings.server_clocks = Some(ServerClocks::default()))
    }

    /// Adds a claim to each proof. Default is none.
    ///
    /// [RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2) allows claims of a profile or a deployment. A claim that this crate
    /// sets, or that is set twice, makes the request fail before anything is sent.
    ///
    /// # Examples
    ///
    /// A server of which several tenants share an URI:
    ///
    /// ```
    /// use tower_oauth2_client::DpopKey;
    ///
    /// let key = DpopKey::generate()?.claim("tenant", "acme");
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    #[must_use]
    pub fn claim(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.set(|settings| settings.claims.push(name, value))
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut Arc::make_mut(&mut self.0).settings);
        self
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

    /// Returns every name of the algorithm.
    pub(crate) fn algorithm_names(&self) -> &'static [&'static str] {
        self.algorithm().names()
    }

    /// Returns an error message if a setting is invalid.
    pub(crate) fn check(&self) -> Result<(), String> {
        let claims = &self.0.settings.claims;
        claims.check("claim", "DPoP proof", &OWN_CLAIMS)
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
        self.prove_as(None, role, method, uri, token_hash).await
    }

    /// Creates a proof like [`prove`](Self::prove), with the name by which the server knows the algorithm, if it is another.
    pub(crate) async fn prove_as(
        &self,
        algorithm: Option<&'static str>,
        role: Role,
        method: &Method,
        uri: &Uri,
        token_hash: Option<&str>,
    ) -> Result<Proof, TokenError> {
        let origin = Origin::over_http(uri).ok_or_else(|| TokenError::request(NOT_ABSOLUTE))?;
        self.check()
            .map_err(|why| TokenError::request(format!("the request was not sent: {why}")))?;
        let settings = &self.0.settings;
        let now = match &settings.server_clocks {
            Some(clocks) => clocks.unix_now(&origin),
            None => clock::unix_now(),
        };
        let nonce = self.0.nonces.get(role, &origin);
        let claims = Claims {
            jti: "",
            htm: method.as_str(),
            htu: &htu(&origin, uri),
            iat: now.saturating_sub(whole_seconds(settings.iat_before_now)),
            ath: token_hash,
            nonce: nonce.as_deref(),
            more: &settings.claims,
        };
        let header = self.sign(algorithm, claims).await;
        let header = header.map_err(|source| {
            let message = "failed to create the DPoP proof; the request was not sent";
            TokenError::of_provider(message, source)
        })?;
        Ok(Proof { header, nonce })
    }

    async fn sign(
        &self,
        algorithm: Option<&'static str>,
        claims: Claims<'_>,
    ) -> Result<HeaderValue, BoxError> {
        let jti = jws::jti()?;
        let claims = Claims {
            jti: &jti,
            ..claims
        };
        let Inner { signer, header, .. } = &*self.0;
        let renamed = algorithm
            .filter(|name| *name != signer.algorithm().as_str())
            .zip(signer.public_key())
            .map(|(name, public_key)| self::header(name, public_key));
        let header = renamed.as_ref().unwrap_or(header);
        let proof = jws::sign(&**signer, header, &claims.to_json()).await?;
        let mut proof = HeaderValue::try_from(proof)
            .map_err(|_| OwnError::new("the proof cannot be sent in a header"))?;
        proof.set_sensitive(true);
        Ok(proof)
    }

    /// Returns by how many seconds the times in proofs for this URI are corrected.
    pub(crate) fn seconds_ahead(&self, uri: &Uri) -> i64 {
        let clocks = self.0.settings.server_clocks.as_ref();
        match clocks.zip(Origin::over_http(uri)) {
            Some((clocks, origin)) => clocks.seconds_ahead(&origin),
            None => 0,
        }
    }

    /// Stores the nonce of a response, if it contains one, and the difference to the server's clock, if that is followed.
    pub(crate) fn note_headers(&self, role: Role, uri: &Uri, headers: &HeaderMap) {
        let Some(origin) = Origin::over_http(uri) else {
            return;
        };
        self.0.nonces.note(role, origin.clone(), headers);
        if let Some(clocks) = &self.0.settings.server_clocks {
            clocks.note(origin, headers);
        }
    }
}

/// Returns the header of a proof, base64url.
fn header(algorithm: &str, public_key: &PublicKey) -> String {
    let public_key = public_key.as_json();
    BASE64_URL_SAFE_NO_PAD.encode(format!(
        r#"{{"typ":"dpop+jwt","alg":"{algorithm}","jwk":{public_key}}}"#
    ))
}

const NOT_ABSOLUTE: &str = "the request was not sent: its URI lacks a scheme or a valid host, which a DPoP proof must contain; \
                            use an absolute URI, or set the API's only origin with `AddAccessTokenLayer::origin`";

impl PartialEq for DpopKey {
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint() == other.thumbprint()
            && self.algorithm() == other.algorithm()
            && self.0.settings == other.0.settings
    }
}

impl Eq for DpopKey {}

impl Hash for DpopKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.thumbprint(), self.algorithm(), &self.0.settings).hash(state);
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
